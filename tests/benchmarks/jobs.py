"""Jobs: from the call in the app to start and end in a worker, and jobs per second; ours beside bare Celery."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from nightcrew import Nightcrew
from nightcrew.messages import RunCanary
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read
from tests.benchmarks.measuring import Contender, Sample, WrongCountError
from tests.support.waiting import pause, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.benchmarks.bare import BareCelery
    from tests.benchmarks.whole_path import RunningCrew

CANARIES: Final = "jobs per second, canaries through the ledger"
BARE_JOBS: Final = "jobs per second, bare Celery tasks"

JOBS_PER_S: Final = 50
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From the begin of the call in the app to a moment of the job, in milliseconds."""

    name: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What the ledger adds, up to a moment of the job; both sides were measured in turns."""

    ours: Latency
    bare: Latency

    @property
    def p50_ms(self) -> float:
        """Added at the median."""
        return self.ours.p50_ms - self.bare.p50_ms

    @property
    def p99_ms(self) -> float:
        """Added at the 99th percentile."""
        return self.ours.p99_ms - self.bare.p99_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBench:
    """A crew and a bare worker on the same broker."""

    crew: RunningCrew
    bare: BareCelery

    def contenders(self, jobs: int) -> list[Contender]:
        """Name the two that are measured for throughput."""
        return [
            Contender(name=CANARIES, measure=partial(self._run_canaries, jobs)),
            Contender(name=BARE_JOBS, measure=partial(self._run_bare, jobs)),
        ]

    def overheads(self, seconds: float, *, jobs_per_s: float = JOBS_PER_S) -> list[Overhead]:
        """Send jobs to each side, ours and bare ones taking turns; give what is added to the start and to the end."""
        jobs = round(seconds * jobs_per_s)
        with Nightcrew(self.crew.record.broker_url) as app:
            self._finished([app.enqueue(RunCanary()).id])  # the connections are open before the clock runs
            ours: dict[str, float] = {}
            bare: dict[str, float] = {}
            began = time.monotonic()
            for number in range(jobs):
                _sleep_until(began + number / jobs_per_s)
                called_at = time.time()
                ours[app.enqueue(RunCanary()).id] = called_at
                _sleep_until(began + (number + 0.5) / jobs_per_s)
                bare[str(number)] = time.time()
                self.bare.send(str(number))
        runs = self._finished(list(ours))
        starts, ends = ({run: moments[which] for run, moments in runs.items()} for which in (0, 1))
        bare_starts, bare_ends = self.bare.moments(jobs)
        return [
            Overhead(
                ours=_latency("enqueue to start, canary", ours, starts),
                bare=_latency("enqueue to start, bare Celery", bare, bare_starts),
            ),
            Overhead(
                ours=_latency("enqueue to end in the ledger, canary", ours, ends),
                bare=_latency("enqueue to end, bare Celery", bare, bare_ends),
            ),
        ]

    def _run_canaries(self, jobs: int) -> Sample:
        with Nightcrew(self.crew.record.broker_url) as app:
            self._finished([app.enqueue(RunCanary()).id])
            began = time.perf_counter()
            ids = [app.enqueue(RunCanary()).id for _ in range(jobs)]
            self._finished(ids)
            return Sample(count=jobs, seconds=time.perf_counter() - began)

    def _run_bare(self, jobs: int) -> Sample:
        began = time.perf_counter()
        for number in range(jobs):
            self.bare.send(str(number))
        starts, _ = self.bare.moments(jobs)
        seconds = time.perf_counter() - began
        if len(starts) != jobs:
            msg = f"{len(starts)} bare tasks ran instead of {jobs}"
            raise WrongCountError(msg)
        return Sample(count=jobs, seconds=seconds)

    def _finished(self, ids: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Wait until these runs have succeeded, and give begin and end of each, in seconds since the epoch."""
        done = (JobRun.kind == RunCanary.kind, JobRun.state == "succeeded", JobRun.id >= min(ids))
        newer = select(func.count()).select_from(JobRun).where(*done)

        def are_done() -> bool:
            with begin_read(self.crew.engine) as connection:
                return int(connection.execute(newer).scalar_one()) >= len(ids)

        wait_until(are_done, timeout_s=_PATIENCE_S, what="the canaries", interval_s=0.01)
        rows = select(JobRun.id, JobRun.started_at, JobRun.finished_at, JobRun.attempt).where(*done)
        with begin_read(self.crew.engine) as connection:
            found = {row.id: row for row in connection.execute(rows)}
        if found.keys() != set(ids) or any(row.attempt != 1 for row in found.values()):
            raise WrongCountError("a canary was lost, or ran more than once")
        return {run: (row.started_at.timestamp(), row.finished_at.timestamp()) for run, row in found.items()}


def _latency(name: str, called_at: Mapping[str, float], seen_at: Mapping[str, float]) -> Latency:
    if called_at.keys() != seen_at.keys():
        msg = f"{name}: {len(seen_at)} jobs came instead of {len(called_at)}"
        raise WrongCountError(msg)
    percentile: Callable[[int], float] = partial(
        _percentile, statistics.quantiles([(seen_at[job] - called_at[job]) * 1000 for job in called_at], n=100)
    )
    return Latency(name=name, p50_ms=percentile(50), p95_ms=percentile(95), p99_ms=percentile(99), jobs=len(called_at))


def _percentile(cuts: Sequence[float], percent: int) -> float:
    return cuts[percent - 1]


def _sleep_until(moment: float) -> None:
    pause(moment - time.monotonic())
