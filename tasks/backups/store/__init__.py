"""What touches the world: programs, disks, tables.

Reading order: `programs.py` (how a program is run), `restic/` (the engine), `captures/` (the sources), `stages.py` and
`targets.py` (where things are put together), `hashing.py`, `cached.py`, `keys.py`, and in SQL `points.py`,
`listing.py`, `watching.py` with `book.py` (all of it for one vault, for one attempt of a run).
"""
