"""Usage: how often each default value is used, counted exactly.

Kinds: `usage.drain`. Redis keys: `nightcrew:usage:*`. Tables: `usage_offsets`, `usage_producers`, `usage_counts`,
`usage_hours`, `usage_incidents`.

Counts travel as entries of a log, and the position up to which the log is contained in the counts is committed with
the counts themselves. Everything that may die in between therefore changes nothing but the moment of the drain.

Reading order: `entries.py` (one entry of the log), `merging.py` (many entries as one batch), `drain.py` (read, merge,
apply), `compaction.py` and `trimming.py` (what the log may forget), `store/` (Redis and SQL), `jobs.py`,
`operations.py`.
"""
