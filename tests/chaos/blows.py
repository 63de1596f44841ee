"""What strikes a crew from outside: each blow is inflicted, shows that it has landed, and is taken back."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

import psutil
import sqlalchemy as sa

from nightcrew import Nightcrew
from nightcrew.messages import ReconcileLedger
from tests.chaos.deeds import DoDeed, WorkLong
from tests.support import wait_until
from tests.support.processes import is_gone
from workers.celery_config import unacked_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from redis import Redis

    from tests.chaos.clock import TurnedClock
    from tests.chaos.proxy import Line
    from tests.chaos.working import WorkingCrew
    from tests.support.postgres import PostgresServer

WORKERS: Final = ("worker-ledger", "worker-usage")
WORKERS_AND_BEAT: Final = (*WORKERS, "beat")

_PATIENCE_S: Final = 30.0
_TRIED_AGAIN: Final = b'"retries": 1'


class Blow(Protocol):
    """One way in which the world gets in the way of a crew."""

    @property
    def name(self) -> str:
        """What it is, for the table."""

    @property
    def shuts_out_apps(self) -> bool:
        """Whether no app can hand over a job meanwhile."""

    def inflict(self) -> None:
        """Strike, and return when the crew feels it."""

    def heal(self) -> None:
        """Take it back; what it broke is for the crew to mend."""


@contextmanager
def under(blow: Blow) -> Iterator[None]:
    """Strike for the time of the block."""
    blow.inflict()
    try:
        yield
    finally:
        blow.heal()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCut:
    """Every connection to the broker is hung up, and no new one comes about."""

    line: Line
    name: str = "connections cut"
    shuts_out_apps: bool = True

    def inflict(self) -> None:
        """Hang up, and wait until somebody was turned away."""
        before = self.line.refused
        self.line.cut()
        wait_until(lambda: self.line.refused > before, timeout_s=_PATIENCE_S, what="a call that was turned away")

    def heal(self) -> None:
        """Let calls through again."""
        self.line.heal()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSilent:
    """Every connection stays open and says nothing, also after the line is well again: half open."""

    line: Line
    name: str = "connections half open"
    shuts_out_apps: bool = True

    def inflict(self) -> None:
        """Lose every word, and wait until somebody has said one."""
        before = self.line.swallowed
        self.line.fall_silent()
        wait_until(lambda: self.line.swallowed > before, timeout_s=_PATIENCE_S, what="a word that got lost")

    def heal(self) -> None:
        """Let new calls through again."""
        self.line.heal()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFull:
    """The broker has no memory left, and may not evict."""

    redis: Redis
    name: str = "broker full"
    shuts_out_apps: bool = True

    def inflict(self) -> None:
        """Set the limit a little below what is in use, and wait until the broker has refused somebody."""
        self.redis.config_resetstat()
        self.redis.config_set("maxmemory", self.redis.info("memory")["used_memory"] * 9 // 10)
        wait_until(self._refused, timeout_s=_PATIENCE_S, what="a command that was refused")

    def heal(self) -> None:
        """Take the limit away."""
        self.redis.config_set("maxmemory", 0)

    def _refused(self) -> bool:
        return "errorstat_OOM" in self.redis.info("errorstats")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull:
    """No file of a worker grows any more: neither the database nor its log nor the worker's own.

    By RLIMIT_FSIZE (setrlimit(2)) at zero bytes. Python ignores SIGXFSZ, so writes fail, and with EFBIG.
    """

    crew: WorkingCrew
    redis: Redis
    name: str = "disk full"
    shuts_out_apps: bool = False
    _struck: list[int] = field(default_factory=list)

    def inflict(self) -> None:
        """Limit everyone who works, and wait until a worker has taken a job that it cannot do."""
        self._struck[:] = [pid for member in WORKERS for pid in family_of(self.crew, member)]
        for pid in self._struck:
            _limit_files(pid, 0)
        self.crew.ask([DoDeed()])
        wait_until(self._is_felt, timeout_s=_PATIENCE_S, what="a worker that cannot begin a job", interval_s=0.05)

    def heal(self) -> None:
        """Let the files of those that still live grow again."""
        for pid in self._struck:
            if not is_gone(pid):
                _limit_files(pid, resource.RLIM_INFINITY)

    def _is_felt(self) -> bool:
        """Tell whether the worker keeps the job for another try."""
        kept = cast("dict[bytes, bytes]", self.redis.hgetall(unacked_key("ledger")))
        return any(self.crew.asked[-1].encode() in message and _TRIED_AGAIN in message for message in kept.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseKilled:
    """The PostgreSQL server dies with all its backends, and starts again on what is on its disk."""

    server: PostgresServer
    name: str = "PostgreSQL killed"
    shuts_out_apps: bool = False

    def inflict(self) -> None:
        """Kill it."""
        self.server.kill9()

    def heal(self) -> None:
        """Start it, which recovers what was committed."""
        self.server.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendsKilled:
    """Connections of the crew to PostgreSQL end in the middle of a transaction."""

    engine: sa.Engine
    count: int = 5
    name: str = "backends terminated"
    shuts_out_apps: bool = False

    def inflict(self) -> None:
        """End as many as wanted, each with a transaction open."""
        ended = 0
        query = sa.text(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'nightcrew' AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
        )

        def enough() -> bool:
            nonlocal ended
            with self.engine.connect() as connection:
                ended += connection.execute(query).scalar_one()
            return bool(ended >= self.count)

        wait_until(enough, timeout_s=_PATIENCE_S, what="transactions to interrupt", interval_s=0.001)

    def heal(self) -> None:
        """Nothing is left of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllKilled:
    """Workers and beat die in the same moment."""

    crew: WorkingCrew
    name: str = "all killed at once"
    shuts_out_apps: bool = False

    def inflict(self) -> None:
        """Kill them, children first in line."""
        pids = [pid for member in WORKERS_AND_BEAT for pid in family_of(self.crew, member)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(map(is_gone, pids)), timeout_s=_PATIENCE_S, what="the end of all")

    def heal(self) -> None:
        """The supervisor does that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorKilled:
    """The supervisor dies, and the kernel ends everyone it had started; then it is started again."""

    crew: WorkingCrew
    shuts_out_apps: bool
    """Whether the broker is its child as well."""
    name: str = "supervisor killed"

    def inflict(self) -> None:
        """Kill it alone, and see its children end."""
        supervisor = psutil.Process(self.crew.process.pid)
        family = [child.pid for child in supervisor.children(recursive=True)]
        self.crew.process.send(signal.SIGKILL)
        wait_until(lambda: all(map(is_gone, family)), timeout_s=_PATIENCE_S, what="the end of the whole crew")
        wait_until(lambda: self.crew.process.exit_code() is not None, timeout_s=_PATIENCE_S, what="its own end")

    def heal(self) -> None:
        """Start another; it need not be ready."""
        self.crew.process.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockTurned:
    """The clock of a ledger worker shows another time for a while: of one of its children, where it has any."""

    crew: WorkingCrew
    clock: TurnedClock
    by: timedelta
    shuts_out_apps: bool = False

    @property
    def name(self) -> str:
        """Say how far."""
        return f"clock turned by {self.by.total_seconds() / 3600:+.0f} h"

    def inflict(self) -> None:
        """Turn it, and have the ledger reconciled meanwhile."""
        self.clock.turn(self.by, pid=family_of(self.crew, WORKERS[0])[-1])
        with Nightcrew(self.crew.url) as app:
            app.enqueue(ReconcileLedger()).result(timeout_s=_PATIENCE_S)

    def heal(self) -> None:
        """Turn it back."""
        self.clock.turn(self.by * 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllKilledAhead:
    """Everyone dies while the clock of the ledger worker is ahead: its lease seems to last until that time."""

    crew: WorkingCrew
    clock: TurnedClock
    by: timedelta
    name: str = "all killed, clock ahead"
    shuts_out_apps: bool = False

    def inflict(self) -> None:
        """Have a job begun by the wrong clock, and kill them; who comes after them goes by the right one."""
        with under(ClockTurned(crew=self.crew, clock=self.clock, by=self.by)):
            self.crew.ask([WorkLong(seconds=3.0)])
            begun = self.crew.asked[-1]
            wait_until(lambda: begun in self.crew.running(), timeout_s=_PATIENCE_S, what="a job at work")
            AllKilled(crew=self.crew).inflict()

    def heal(self) -> None:
        """The supervisor does that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingRestart:
    """One member after the other is killed, each when the one before is back."""

    crew: WorkingCrew
    meanwhile: Callable[[], None]
    """Called before each kill."""
    name: str = "rolling restart"
    shuts_out_apps: bool = False

    def inflict(self) -> None:
        """Kill each and wait for the next one."""
        for member in WORKERS_AND_BEAT:
            self.meanwhile()
            pids = family_of(self.crew, member)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            wait_until(partial(self._is_back, member, pids[0]), timeout_s=60, what=f"another {member}")

    def heal(self) -> None:
        """The supervisor does that."""

    def _is_back(self, member: str, old: int) -> bool:
        record = self.crew.process.record()
        return record is not None and record.complete and record.children.get(member) not in {None, old}


def family_of(crew: WorkingCrew, member: str) -> list[int]:
    """Give the process ids of a member and of its children, as soon as it runs."""

    def running() -> list[int]:
        record = crew.process.record()
        pid = record.children.get(member) if record is not None else None
        if pid is None or is_gone(pid):
            return []
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]

    return wait_until(running, timeout_s=_PATIENCE_S, what=f"a process of {member}")


def _limit_files(pid: int, size_bytes: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
