"""A steady load on a crew, and what of the crew grows under it."""

from __future__ import annotations

import random
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import psutil
import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect
from nightcrew.errors import EnqueueError
from nightcrew.messages import DrainUsage, ReconcileLedger, RunCanary
from tasks.schema import Base
from tasks.transactions import begin_read
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from tests.chaos.counting import CountingCrew

KEYS = 3_000
"""Distinct keys that are counted."""
_CALLS_PER_TICK = 3_000
_JOBS_PER_TICK = 2
_TICK_S = 0.1
_QUEUE = RunCanary.queue
_FULL_QUEUE = 20
"""So long a queue gets no more jobs: the load is what the crew can do, on any machine."""
_HOUSEKEEPING_EVERY = 20
"""Ticks between what the timetable does each minute."""


@dataclass(kw_only=True)
class Load:
    """What was asked of the crew."""

    increments: int = 0
    jobs: int = 0
    garbage: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How much larger the last third may be than the second: of noise, not of growth."""

    share: float
    amount: float


@contextmanager
def steady_load(url: str) -> Iterator[Load]:
    """Count, enqueue, and send garbage at a steady pace during the block."""
    load, is_over = Load(), threading.Event()

    def run() -> None:
        try:
            with Nightcrew(url, flush_interval_s=0.2) as crew, connect(url, timeout_s=5) as redis:
                _work(crew, redis, load, is_over)
        except Exception as error:  # noqa: BLE001  shown by the test, in its own thread
            load.errors.append(repr(error))

    thread = threading.Thread(target=run, name="steady-load")
    thread.start()
    try:
        yield load
    finally:
        is_over.set()
        thread.join()


def _work(crew: Nightcrew, redis: Redis, load: Load, is_over: threading.Event) -> None:
    chance, at, ticks = random.Random(1), datetime.now(UTC), 0
    names = [f"key-{number:04}" for number in range(KEYS)]
    while not is_over.wait(_TICK_S):
        ticks += 1
        # One hour for all of them: the history grows by the hour, and is meant to.
        crew.usage.increment_many(chance.choices(names, k=_CALLS_PER_TICK), context="soak", accepted=True, at=at)
        load.increments += _CALLS_PER_TICK
        if redis.llen(_QUEUE) >= _FULL_QUEUE:
            continue
        with_upkeep = ticks % _HOUSEKEEPING_EVERY == 0
        wanted = [RunCanary(note="x" * 200) for _ in range(_JOBS_PER_TICK)]
        try:
            crew.enqueue_many([*wanted, *([ReconcileLedger(), DrainUsage()] if with_upkeep else [])])
        except EnqueueError as error:
            load.errors.append(repr(error))
        load.jobs += len(wanted)
        redis.xadd(wire.INTENTS, {"v": "1", "kind": "no.such.kind", "payload": "{}"})
        load.garbage += 1


class Soak:
    """Samples of a crew, a number each of whatever could grow."""

    def __init__(self, crew: CountingCrew) -> None:
        self._crew = crew
        self._samples: list[dict[str, float]] = []

    def watch(self, *, duration_s: float, interval_s: float) -> None:
        """Take samples for so long."""
        ends_at = time.monotonic() + duration_s
        while time.monotonic() < ends_at:
            self._samples.append(self._sample())
            pause(interval_s)

    def table(self) -> str:
        """Show the median of each third."""
        heading = f"{'median of':<34}{'1st third':>14}{'2nd third':>14}{'3rd third':>14}"
        rows = [
            f"{name:<34}{first:>14,.0f}{second:>14,.0f}{third:>14,.0f}"
            for name, (first, second, third) in self.medians().items()
        ]
        return "\n".join([heading, *rows])

    def medians(self) -> dict[str, tuple[float, float, float]]:
        """Give the median of each third of the time, by what was measured."""
        size = len(self._samples) // 3
        thirds = [self._samples[number * size : (number + 1) * size] for number in range(3)]
        return {
            name: cast("tuple[float, float, float]", tuple(_median(third, name) for third in thirds))
            for name in sorted({name for sample in self._samples for name in sample})
        }

    def growth(self, tolerances: dict[str, Tolerance]) -> list[str]:
        """Name what grew between the second and the last third by more than the tolerance of its prefix."""
        found = []
        for name, (_, second, third) in self.medians().items():
            tolerance = tolerances[name.partition(" ")[0]]
            if third > second * (1 + tolerance.share) + tolerance.amount:
                found.append(f"{name} grew from {second:,.0f} to {third:,.0f}")
        return found

    def _sample(self) -> dict[str, float]:
        with connect(self._crew.url, timeout_s=5) as redis:
            return {**_redis(redis), **self._tables(), **self._files(), **self._processes()}

    def _tables(self) -> dict[str, float]:
        with begin_read(self._crew.engine) as connection:
            return {
                f"rows {table.name}": float(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
                for table in Base.metadata.sorted_tables
            }

    def _files(self) -> dict[str, float]:
        paths = [self._crew.directory / f"nightcrew.db{suffix}" for suffix in ("", "-wal")]
        return {f"file {path.name}": float(path.stat().st_size) for path in paths if path.exists()}

    def _processes(self) -> dict[str, float]:
        record = self._crew.process.record()
        children = record.children if record is not None else {}
        return {f"rss {name}": float(_rss(pid)) for name, pid in children.items() if name != "broker"}


def _redis(redis: Redis) -> dict[str, float]:
    info = redis.info("memory")
    found = {
        "redis used_memory_dataset": float(info["used_memory_dataset"]),
        "keys": float(redis.dbsize()),
    }
    for stream in (wire.INTENTS, wire.DEAD_LETTERS, wire.usage_stream(0)):
        found[f"stream {stream}"] = float(redis.xlen(stream))
    found[f"queue {_QUEUE}"] = float(redis.llen(_QUEUE))
    return found


def _rss(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family)
    except psutil.NoSuchProcess:
        return 0


def _median(samples: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(sample.get(name, 0.0) for sample in samples)
