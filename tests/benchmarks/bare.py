"""A bare Celery worker beside the crew: what we are compared with."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from redis import Redis

from nightcrew._redis import kombu_url
from tests.benchmarks.bare_app import ENDS, STARTS, app, count, note_start
from tests.benchmarks.floors import open_sqlite
from tests.benchmarks.measuring import Sample, check_counts
from tests.support.processes import short_directory, spawned
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from tests.benchmarks.workloads import Workload

_CHECKOUT: Final = Path(__file__).parents[2]
_DATABASE_NUMBER: Final = 1
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BareCelery:
    """The app and its running worker, on the Redis server of the crew but in a database of its own."""

    redis: Redis
    database: sqlite3.Connection

    def count(self, workload: Workload) -> Sample:
        """Send one task per increment, and wait for the last commit."""
        self.database.execute("DELETE FROM counts")
        began = time.perf_counter()
        for key in workload.keys:
            count.delay(key)
        wait_until(
            lambda: self._total() == len(workload.keys), timeout_s=_PATIENCE_S, what="the tasks", interval_s=0.02
        )
        seconds = time.perf_counter() - began
        found = dict(self.database.execute("SELECT key, total FROM counts"))
        check_counts("one task per increment", found, workload.expected)
        return Sample(count=len(workload.keys), seconds=seconds)

    def send(self, job_id: str) -> None:
        """Send a task that notes its start under this id."""
        app.send_task(note_start.name, (job_id,))

    def moments(self, expected: int) -> tuple[dict[str, float], dict[str, float]]:
        """Wait until that many tasks have ended, and give the begin and the end of each, in seconds since the epoch."""
        wait_until(lambda: self._ended() >= expected, timeout_s=_PATIENCE_S, what="the bare tasks", interval_s=0.01)
        return self._take(STARTS), self._take(ENDS)

    def _total(self) -> int:
        found: int = self.database.execute("SELECT coalesce(sum(total), 0) FROM counts").fetchone()[0]
        return found

    def _ended(self) -> int:
        found: Any = self.redis.llen(ENDS)
        return int(found)

    def _take(self, name: str) -> dict[str, float]:
        lines: Any = self.redis.lrange(name, 0, -1)
        self.redis.delete(name)
        pairs = [line.decode().split() for line in lines]
        return {job_id: float(moment) for job_id, moment in pairs}


@contextmanager
def running_bare_celery(broker_url: str) -> Iterator[BareCelery]:
    """Run the worker during the block, with the settings that Celery has by default."""
    bare_url = other_database(broker_url, _DATABASE_NUMBER)
    redis = Redis.from_url(bare_url)
    with short_directory() as directory:
        path = str(directory / "bare.db")
        database = open_sqlite(path)
        app.conf.update(broker_url=kombu_url(bare_url))
        env = {
            "BENCH_BROKER_URL": kombu_url(bare_url),
            "BENCH_REDIS_URL": bare_url,
            "BENCH_DATABASE": path,
            "PYTHONPATH": str(_CHECKOUT),
        }
        argv = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.bare_app", "worker"]
        with spawned(argv, env=env, cwd=directory):
            bare = BareCelery(redis=redis, database=database)
            bare.send("ready")
            bare.moments(1)
            yield bare
        app.close()
        database.close()
    redis.close()


def other_database(url: str, number: int) -> str:
    """Name another database of the same Redis server."""
    parts = urlsplit(url)
    if parts.scheme in {"unix", "redis+socket"}:
        return f"unix://{parts.netloc}{parts.path}?db={number}"
    return parts._replace(path=f"/{number}").geturl()
