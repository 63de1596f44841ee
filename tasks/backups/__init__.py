"""Restore points: what was captured, what it must be when it comes back, and how long it is kept.

Kinds: `backups.full`, `backups.incremental`, `backups.verify`, `backups.prune`, `backups.copy`, `backups.drill`.
Tables: `restore_points`, `restore_point_copies`, `vault_checks`, `vault_measures`, which mirror the vaults, the truth;
`drills`, what restore tests have found.
Keys: none of its own; it reads the usage log's positions from the captured database.

Reading order: `points.py`, `manifest.py`, `staging.py` and `vaults.py` (the values and the ports), `backup.py` (one run
from capture to record) with `adoption.py` and `composing.py`, `restoring.py` (a path of points back to files),
`verifying.py`, `pruning.py`, `copying.py`; the decisions in `promotion.py`, `retention.py`, `shrinking.py`; what
touches the world in `store/`; and `operations/`, where all of it meets.
"""
