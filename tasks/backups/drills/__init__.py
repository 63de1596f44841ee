"""Restore tests: a point is restored into a sandbox and compared for equality, and the comparison is put to the test.

Reading order: `verdicts.py` and `subjects.py` (the values and the ports), `choosing.py` (which point is drilled),
`drill.py` (one run), `timing.py` (what it took and what a restore will take), `coverage.py` (how much is proven),
`disaster.py` (everything is lost and comes back). What looks at restored sets is in `tasks/backups/store/drills/`.
"""
