"""A Celery app as the tutorial has it: default settings, one task per increment, one upsert per task.

Its worker reads `BENCH_BROKER_URL` and `BENCH_DATABASE`.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING

from celery import Celery
from redis import Redis

from tests.benchmarks.floors import UPSERT, open_sqlite

if TYPE_CHECKING:
    import sqlite3

STARTS = "bench:starts"
ENDS = "bench:ends"

app = Celery("bare", broker=os.environ.get("BENCH_BROKER_URL"))


@app.task
def count(key: str) -> None:
    """Count one use."""
    _database().execute(UPSERT, (key, 1))


@app.task
def note_start(job_id: str) -> None:
    """Do nothing but say when it began, and when it had said so."""
    started_at = time.time()
    _redis().rpush(STARTS, f"{job_id} {started_at}")
    ended_at = time.time()
    _redis().rpush(ENDS, f"{job_id} {ended_at}")


@cache
def _database() -> sqlite3.Connection:
    return open_sqlite(os.environ["BENCH_DATABASE"])


@cache
def _redis() -> Redis:
    return Redis.from_url(os.environ["BENCH_REDIS_URL"])
