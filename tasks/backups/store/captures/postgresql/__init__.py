"""Capture and restore of a PostgreSQL database while others write to it.

A full point is a dump of one snapshot and, where the server allows increments, a base backup with its write-ahead log
up to that very snapshot. An increment is what has changed since its parent, again up to the moment of a snapshot. What
the tables hold is read in the same snapshot, so that a restore can be compared for equality.

Reading order: `capturing.py` (what a point is made of), `moment.py` (how snapshot and place in the log are made one),
`expectations.py` and `catalogue.py` (what the tables hold), `physical.py` (base backups and log), `slots.py`,
`restoring.py` and `private_server.py` (the way back), `sessions.py`, `tools.py`, `packing.py`.
"""

from tasks.backups.store.captures.postgresql.capturing import PostgresqlSource, release_logs
from tasks.backups.store.captures.postgresql.expectations import read_expectations
from tasks.backups.store.captures.postgresql.private_server import private_server
from tasks.backups.store.captures.postgresql.restoring import RestoredDatabase, load_dump, restore_database

__all__ = [
    "PostgresqlSource",
    "RestoredDatabase",
    "load_dump",
    "private_server",
    "read_expectations",
    "release_logs",
    "restore_database",
]
