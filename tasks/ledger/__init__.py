"""Ledger: every job from its intent to its one outcome, whatever dies in between.

Kinds: `ledger.reconcile`, `ledger.canary`, `schedules.fire`. Redis keys: `nightcrew:intents`, `nightcrew:dead-letters`,
`nightcrew:job:<id>`, `nightcrew:ledger:mirrored-until`. Tables: `job_runs`, `dead_letters`.

Celery delivers, the ledger decides: a message is only a hint that a run may be due. The row of the run says who may
work on it (a claim, with a lease that ends and a fence that grows) and what came of it.

Reading order: `states.py` (what may happen to a run, and why), `retries.py`, `runs.py` (the values), `intents.py` and
`dead_letters.py` (what comes over the wire), `slots.py`, `store/` (SQL and Redis), `lease.py`, `firing.py`,
`reconciliation.py`, `jobs.py`, `operations.py` (what an operator does). `tasks/job.py` above runs the jobs of all
slices by these rules.
"""
