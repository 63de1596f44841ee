"""The whole path: from the first call in an app to the last commit of a worker, through a real crew."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psutil
from sqlalchemy import text

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect
from tasks.transactions import begin_write
from tasks.usage.store import UsageQueries
from tests.benchmarks.measuring import Sample, WrongCountError, check_counts
from tests.support.processes import WITHOUT_BACKUPS, short_directory
from tests.support.waiting import wait_until
from workers.database import create_engine
from workers.settings import load_settings
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.usage import UsageCounter
    from tests.benchmarks.workloads import Workload
    from workers.supervisor.crew_file import CrewRecord

    Caller = Callable[[UsageCounter, Workload], None]

_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.003
_STREAM: Final = wire.usage_stream(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCrew:
    """A crew, its database seen from outside, and its broker."""

    record: CrewRecord
    engine: Engine
    redis: Redis

    def count(self, workload: Workload, caller: Caller, *, spool: Path | None = None) -> Sample:
        """Count a workload; the tables and the log are empty before, the connections are open."""
        with Nightcrew(self.record.broker_url, spool=spool) as app:
            app.usage.increment("warm-up")
            app.usage.flush()
            self._wait_until_drained()
            self._clear()
            began = time.perf_counter()
            caller(app.usage, workload)
            called = time.perf_counter()
            app.usage.flush(_PATIENCE_S)
            flushed = time.perf_counter()
            self._wait_until_drained()
            drained = time.perf_counter()
        self._check(workload)
        details = {"called_s": called - began, "flushed_s": flushed - began, "log_bytes": self._log_bytes()}
        return Sample(count=len(workload.keys), seconds=drained - began, details=details)

    def worker_rss_bytes(self) -> int:
        """Give the memory of the worker that counts."""
        return int(psutil.Process(self.record.children["worker-usage"]).memory_info().rss)

    def _wait_until_drained(self) -> None:
        """Look at the position alone: adding up the counts again and again would slow the worker down."""
        info: Any = self.redis.xinfo_stream(_STREAM)
        last_id = info["last-generated-id"].decode()
        queries = UsageQueries(self.engine)

        def is_drained() -> bool:
            position = queries.positions().get(0)
            return position is not None and position.last_id == last_id

        wait_until(is_drained, timeout_s=_PATIENCE_S, what="the last commit", interval_s=_POLL_S)

    def _clear(self) -> None:
        with begin_write(self.engine) as connection:
            for table in ("usage_counts", "usage_hours"):
                statement = f"DELETE FROM {table}" if self.engine.name == "sqlite" else f"TRUNCATE {table}"  # noqa: S608
                connection.execute(text(statement))
        self.redis.xtrim(_STREAM, maxlen=0, approximate=False)

    def _check(self, workload: Workload) -> None:
        queries = UsageQueries(self.engine)
        check_counts("through the crew", {row.key: row.total for row in queries.snapshot()}, workload.expected)
        if (history := queries.sums().history_total) != len(workload.keys):
            msg = f"the history has {history} increments instead of {len(workload.keys)}"
            raise WrongCountError(msg)

    def _log_bytes(self) -> int:
        size: Any = self.redis.memory_usage(_STREAM, samples=0)
        return int(size or 0)


@contextmanager
def running_crew(env: Mapping[str, str] | None = None) -> Iterator[RunningCrew]:
    """Run a crew during the block, in a directory of its own."""
    with short_directory() as directory:
        data_dir = directory / "data"
        with CrewProcess(data_dir, with_flower=False, env={**WITHOUT_BACKUPS, **(env or {})}) as process:
            record = process.wait_ready()
            engine = create_engine(load_settings(data_dir, env or {}).database_url)
            redis = connect(record.broker_url, 30.0)
            try:
                yield RunningCrew(record=record, engine=engine, redis=redis)
            finally:
                redis.close()
                engine.dispose()
