"""What counting costs at least: without durability, without SQL, or without a queue."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.measuring import Sample, check_counts
from tests.support.databases import migrate_database
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from redis import Redis

    from tests.benchmarks.workloads import Workload

PIPELINED: Final = 1_000
_CREATE: Final = "CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, total INTEGER NOT NULL)"
_WITHOUT_ROWID: Final = " WITHOUT ROWID"
UPSERT: Final = "INSERT INTO counts VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET total = total + excluded.total"
_SUMS: Final = (
    "ON CONFLICT DO UPDATE SET total = total + excluded.total, "
    "accepted = accepted + excluded.accepted, rejected = rejected + excluded.rejected"
)
_OUR_UPSERTS: Final = (
    f"INSERT INTO usage_counts (key, context, total, accepted, rejected) VALUES (?, '', ?, 0, 0) {_SUMS}",  # noqa: S608
    f"INSERT INTO usage_hours (hour, key, context, total, accepted, rejected) VALUES (1, ?, '', ?, 0, 0) {_SUMS}",  # noqa: S608
)


def redis_incr(redis: Redis, workload: Workload) -> Sample:
    """INCR in pipelines of 1,000: what most people do. It repeats counts when a reply is lost."""
    redis.flushdb()
    began = time.perf_counter()
    for chunk in workload.chunks(PIPELINED):
        with redis.pipeline(transaction=False) as pipe:
            for key in chunk:
                pipe.incr(key)
            pipe.execute()
    seconds = time.perf_counter() - began
    keys = list(workload.expected)
    totals: Any = redis.mget(keys)
    found = {key: int(total) for key, total in zip(keys, totals, strict=True)}
    redis.flushdb()
    check_counts("INCR", found, workload.expected)
    return Sample(count=len(workload.keys), seconds=seconds)


def sqlite_upserts(workload: Workload, *, rows_per_transaction: int, with_rowid: bool = False) -> Sample:
    """Upserts by `executemany` into a new file, set up as the crew's is; one table, where ours writes two.

    Without rowid a table is one B-tree as ours are, with it (SQLite's default) it is two.
    """
    with short_directory() as directory:
        connection = open_sqlite(str(directory / "floor.db"), with_rowid=with_rowid)
        began = time.perf_counter()
        for chunk in workload.chunks(rows_per_transaction):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(UPSERT, [(key, 1) for key in chunk])
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        found = dict(connection.execute("SELECT key, total FROM counts"))
        connection.close()
    check_counts("executemany", found, workload.expected)
    return Sample(count=len(workload.keys), seconds=seconds)


def sqlite_upserts_into_our_tables(workload: Workload, *, rows_per_transaction: int) -> Sample:
    """The same work that the crew does in SQL, counts and hourly history, from rows that are ready in memory."""
    with short_directory() as directory:
        path = directory / "nightcrew.db"
        migrate_database(f"sqlite:///{path}")
        connection = open_sqlite(str(path))
        began = time.perf_counter()
        for chunk in workload.chunks(rows_per_transaction):
            rows = [(key, 1) for key in chunk]
            connection.execute("BEGIN IMMEDIATE")
            for statement in _OUR_UPSERTS:
                connection.executemany(statement, rows)
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        found = dict(connection.execute("SELECT key, total FROM usage_counts"))
        connection.close()
    check_counts("executemany, both tables", found, workload.expected)
    return Sample(count=len(workload.keys), seconds=seconds)


def bare_dict(workload: Workload) -> Sample:
    """Count in a dict, in memory, lost with the process."""
    counts: dict[str, int] = {}
    began = time.perf_counter()
    for key in workload.keys:
        counts[key] = counts.get(key, 0) + 1
    seconds = time.perf_counter() - began
    check_counts("dict", counts, workload.expected)
    return Sample(count=len(workload.keys), seconds=seconds)


def open_sqlite(path: str, *, with_rowid: bool = False) -> sqlite3.Connection:
    """Open a file as `workers.database` does, with the table of the floors in it."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -32768", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(_CREATE + ("" if with_rowid else _WITHOUT_ROWID))
    return connection
