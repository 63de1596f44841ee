"""Ledger: every job from its intent to its one outcome, whatever dies in between.

Kinds: `ledger.reconcile`, `ledger.canary`, `schedules.fire`. Redis keys: `nightcrew:intents`, `nightcrew:dead-letters`,
`nightcrew:job:<id>`, `nightcrew:jobs:caps`, `nightcrew:jobs:queued:<kind>`, `nightcrew:ledger:mirrored-until`. Tables:
`job_runs`, `run_events`, `resource_leases`, `schedule_entries`, `pings`, `dead_letters`.

Celery delivers, the ledger decides: a message is only a hint that a run may be due. The row of the run says who may
work on it (a claim, with a lease that ends and a fence that grows) and what came of it. Each change of a run is one
compare-and-set and one event, in one transaction. What a run needs for itself alone is part of its claim.

Reading order: `states.py` (what may happen to a run, and why), `events.py` (what has happened), `resources.py`,
`retries.py`, `runs.py` (the values), `intents.py` and `dead_letters.py` (what comes over the wire), `slots.py` and
`catching_up.py` (the timetable), `pings.py` (what is told outside), `retention.py` (what is forgotten), `store/` (SQL
and Redis), `lease.py` and `attempts.py` (a run while it is worked on), `walking.py`, `firing.py`, `overdue.py`,
`pressure.py` (how much may wait), `forgetting.py`, `reconciliation.py`, `jobs.py`, `operations/` (what an operator
does). `tasks/job.py` above runs the jobs of all slices by these rules.
"""
