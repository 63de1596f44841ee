"""What a job is handed by the process it runs in: database, Redis, clock, publisher, timetable.

Built once per process in `workers/lifecycle.py`, passed down, never imported as a global by a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.messages import Message


class Publisher(Protocol):
    """Puts messages on their queues."""

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        """Put one message on its queue; the same job id twice is harmless.

        Raises:
            TransientError: the broker did not take it.
        """


class ScheduleEntry(Protocol):
    """What the ledger needs to know of an entry of the timetable."""

    @property
    def name(self) -> str:
        """Its name, in kebab case."""

    @property
    def message(self) -> Message:
        """What it wants done."""

    def slot_at(self, instant: datetime) -> datetime:
        """Give the newest slot at or before the instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOptions:
    """Settings of the usage slice that its jobs need."""

    partitions: int = 1
    drain_entries: int = 100
    """Entries of the log read and merged for one transaction."""
    log_cap_bytes: int = 512 * 1024 * 1024
    """Memory of one partition of the log at which even unproven entries are forgotten, loudly."""
    compact_after: timedelta = timedelta(hours=24)
    """Applied entries stay raw this long, so that any copy of the database younger than this replays exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """Settings of the ledger slice that its jobs need."""

    lease: timedelta = timedelta(seconds=60)
    max_attempts: int = 4
    republish_after: timedelta = timedelta(seconds=60)
    """A queued run that nobody started for this long is put on its queue again."""
    mirror_ttl: timedelta = timedelta(hours=24)
    """How long an app can read the state of a finished job."""
    keep_maintenance: timedelta = timedelta(days=1)
    """How long the row of a succeeded run stays when it was the crew's own upkeep, such as a reconcile each minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything a job may touch."""

    engine: Engine
    redis: Redis
    publisher: Publisher
    timetable: Mapping[str, ScheduleEntry]
    worker_name: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    usage: UsageOptions = UsageOptions()
    ledger: LedgerOptions = LedgerOptions()


_current: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Make this the runtime of the process; called once when a worker process starts."""
    _current[:] = [runtime]


def uninstall() -> None:
    """Forget the runtime of the process."""
    _current.clear()


def current() -> Runtime:
    """Give the runtime of the process.

    Raises:
        LookupError: none was installed.
    """
    if not _current:
        msg = "no runtime is installed in this process: jobs run in a worker that workers.lifecycle has set up"
        raise LookupError(msg)
    return _current[0]
