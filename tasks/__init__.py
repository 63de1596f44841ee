"""What the crew does: one folder per capability, each the owner of a data format.

A slice has `jobs.py` (the Celery edge), pure modules named after nouns of its domain, `tables.py`, and `store`
(its only I/O). Start with `job.py` (how a message becomes a call), then `runtime.py` (what a job is handed),
then the slice you need: `usage/` (counts) or `ledger/` (job runs, intents, dead letters).
"""
