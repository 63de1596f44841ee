"""Default values: what an application offers before anybody has chosen.

Kinds: none yet: values and batches are changed where they are asked for.
Tables: `default_values`, `default_value_tags`, `default_value_changes`.
Keys: none in Redis.

Reading order: `values.py` (the entity and its rules), `changes.py` (what becomes of one, a pure decision),
`listing.py` (questions and pages), `files.py` (CSV and JSON Lines), `transfer.py` (import and export), `store/`, and
`operations.py`, where all of it meets.
"""
