"""What a job is handed by the process it runs in: database, Redis, clock, publisher, timetable.

Built once per process in `workers/lifecycle.py`, passed down, never imported as a global by a slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path  # noqa: TC003  a field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nightcrew.signing import Guard
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from redis import Redis
    from sqlalchemy import Connection, Engine

    from nightcrew.messages import Message
    from tasks.invariants import Invariant


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A message of one job, on its way to a queue."""

    message: Message
    job_id: str
    correlation_id: str
    enqueued_at: datetime


class Publisher(Protocol):
    """Puts messages on their queues."""

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        """Put one message on its queue; the same job id twice is harmless.

        Raises:
            TransientError: the broker did not take it.
        """

    def publish_many(self, postings: Sequence[Posting]) -> None:
        """Do the same with many at once, in a few round trips.

        Raises:
            TransientError: the broker did not take all of them; some may be out.
        """


class ScheduleEntry(Protocol):
    """What the ledger needs to know of an entry of the timetable."""

    @property
    def name(self) -> str:
        """Its name, in kebab case."""

    @property
    def message(self) -> Message:
        """What it wants done."""

    @property
    def catch_up(self) -> Literal["none", "last", "all"]:
        """What becomes of slots that nobody fired within their grace."""

    @property
    def grace(self) -> timedelta:
        """How late a slot may start and still be in time."""

    @property
    def max_duration(self) -> timedelta:
        """How long a run may take before someone should look."""

    def slot_at(self, instant: datetime) -> datetime:
        """Give the newest slot at or before the instant."""

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        """Give the slots after the instant, without end."""

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the slots later than `after` and not later than `until`, in order."""


class Attempt(Protocol):
    """The hold that a job has on its run while it works; `NoAttempt` where there is none."""

    @property
    def run_id(self) -> str | None:
        """The run; None where a job works without one."""

    @property
    def number(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def fence(self) -> int:
        """Grows with each claim of the run: what carries an older one comes from a worker that lost it."""

    def checkpoint(self) -> None:
        """Stop here if the work is not wanted any more. Cheap: to be called wherever stopping does no harm.

        Raises:
            LeaseLostError: another worker may hold the run by now.
            CancelledError: somebody called the run off.
        """

    def report(self, share: float, text: str = "") -> None:
        """Show how far the work is, as a share from 0 to 1, and pass a checkpoint. Two a second are kept.

        Raises:
            LeaseLostError: see `checkpoint`.
            CancelledError: see `checkpoint`.
        """

    def guard(self, connection: Connection) -> None:
        """Make a transaction of the job's own conditional on the hold: it must be current at its end.

        Raises:
            LeaseLostError: it is not; nothing of the transaction may stay.
        """

    def complete_in(self, connection: Connection, result: Any) -> None:
        """Record success in a transaction of the job's own, so that effect and outcome commit together or not at all.

        Raises:
            LeaseLostError: the hold is not the current one; nothing of the transaction may stay.
            PermanentError: the result is no JSON.
        """

    def take(self, resource: str) -> int:
        """Take a resource that one run at a time may use, until the run ends; give the resource's fence.

        Raises:
            ResourceBusyError: another run holds it. Let it pass: the run is put back and costs no attempt.
            LeaseLostError: see `checkpoint`.
        """

    def spawn(self, message: Message, *, key: str) -> str:
        """Ask for a child run, once per key however often this run is tried; give its id."""


class NoAttempt:
    """For a job that works without a run: nobody waits for it, takes it over or calls it off."""

    run_id: str | None = None
    number: int = 1
    fence: int = 0

    def checkpoint(self) -> None:
        """Go on."""

    def report(self, share: float, text: str = "") -> None:
        """Show nothing."""

    def guard(self, connection: Connection) -> None:
        """Let everything pass."""

    def complete_in(self, connection: Connection, result: Any) -> None:
        """Record nothing."""

    def take(self, resource: str) -> int:
        """Refuse: without a run nobody would know who holds it."""
        msg = f"{resource} can only be taken by a run of the ledger"
        raise PermanentError(msg)

    def spawn(self, message: Message, *, key: str) -> str:
        """Refuse: without a run there is no parent."""
        msg = f"{message.kind} ({key}) can only be a child of a run of the ledger"
        raise PermanentError(msg)


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
    keep_producers: timedelta = timedelta(days=365)
    """How long it is known which flush of a producer was its last. A spool that comes back later is counted twice."""
    keep_incidents: timedelta = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """Settings of the access log of the cache that the ttl slice's jobs need."""

    collect_entries: int = 100
    """Entries of the log read and added up for one transaction."""
    keep_log: timedelta = timedelta(hours=25)
    """How long the log keeps its entries, and with them the sample of single requests."""
    log_cap_bytes: int = 64 * 1024 * 1024
    """What it may hold at most; beyond it the oldest entries go earlier."""
    keep_hours: timedelta = timedelta(days=400)
    """How long the hourly counters of each family are kept."""
    keep_producers: timedelta = timedelta(days=30)
    """How long it is known which shipment of a process was its last."""
    keep_incidents: timedelta = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """Settings of the ledger slice that its jobs need."""

    lease: timedelta = timedelta(seconds=60)
    max_attempts: int = 4
    republish_after: timedelta = timedelta(seconds=60)
    """A queued run that nobody started for this long is put on its queue again."""
    mirror_ttl: timedelta = timedelta(hours=24)
    """How long an app can read the state of a finished job."""
    keep_runs: timedelta = timedelta(days=30)
    """How long a run that succeeded or was cancelled is remembered, and its dedup key with it."""
    keep_failed: timedelta = timedelta(days=180)
    """The same for a run that failed, died or was missed."""
    keep_maintenance: timedelta = timedelta(days=1)
    """The same for the crew's own upkeep, such as a reconcile each minute, unless it failed."""
    keep_dead_letters: timedelta = timedelta(days=180)
    """How long a dead letter waits for an operator."""
    keep_retried_letters: timedelta = timedelta(days=30)
    """How long one stays that was tried again."""
    max_dead_letters: int = 100_000
    """More are not kept: the oldest go, loudly."""
    keep_pings: timedelta = timedelta(days=7)
    """How long a ping stays that was sent or given up, so that somebody can look when."""
    queue_cap: int = 100_000
    """How many jobs of a kind may wait before apps get no more of it in."""
    queue_caps: Mapping[str, int] = field(default_factory=dict)
    """The same for single kinds."""
    watched_entries: frozenset[str] = frozenset()
    """Entries of the timetable whose runs a dead-man switch hears of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionOptions:
    """How many restore points are kept: the newest of each of so many days, weeks and months."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What a profile of backups takes, and how long it is kept."""

    parts: frozenset[str] = frozenset({"database", "redis", "config", "model"})
    retention: RetentionOptions = RetentionOptions()
    second_retention: RetentionOptions = RetentionOptions()
    """The same in the second vault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultOptions:
    """Where a vault is and how it is opened. Never an argument of a program, never a line of a log."""

    location: str
    """A directory, `s3:https://host/bucket/path` or `rest:https://host/path`."""
    password_file: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the engine alone: the keys of S3 among others."""
    is_append_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """Settings of the backups slice that its jobs need."""

    directory: Path
    """Where backups are put together and what they need again is cached; private, on a disk with room."""
    vault: VaultOptions
    second_vault: VaultOptions | None = None
    profiles: Mapping[str, ProfileOptions] = field(default_factory=lambda: {"default": ProfileOptions()})
    cache_url: str | None = field(default=None, repr=False)
    """The Redis of the cache; None where it is the broker's."""
    crew_file: Path | None = None
    """Holds the name that the points of this crew have, made at the first backup. None: the crew has none."""
    config_files: tuple[Path, ...] = ()
    """Taken as they are. The password of a vault is never one of them."""
    model_file: Path | None = None
    """The active model; its manifest lies beside it."""
    engine: str = "restic"
    """Program that keeps the vaults: a name on the PATH or a path."""
    postgresql_tools: Path | None = None
    """Directory of `pg_dump` and its like; None looks on the PATH and where Debian puts them."""
    nice: int = 10
    idle_io: bool = True
    upload_kib_s: int | None = None
    download_kib_s: int | None = None
    most_links: int = 24
    """Deltas in a row before the next point is a full."""
    most_chain_share: float = 0.5
    """Deltas of a chain together, as a share of its full, before the next point is a full."""
    most_changed_share: float = 0.4
    """Share of changed pages from which on a delta is not worth it."""
    target_rto: timedelta = timedelta(minutes=15)
    """How long a restore may be expected to take before the next point is a full."""
    shrink_share: float = 0.5
    """A point below this share of the median of those before it is suspect."""
    read_whole_below_bytes: int = 256 * 1024 * 1024
    """Databases up to this size are read row by row for each point, larger ones for a full one."""
    drill_after_full: bool = True
    """Whether each full is drilled as soon as it is stored."""
    keep_drills: timedelta = timedelta(days=730)
    """How long it is known what a drill found; the trend of restore times is drawn from it."""


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
    access: AccessOptions = AccessOptions()
    ledger: LedgerOptions = LedgerOptions()
    backups: BackupOptions | None = None
    """None in a process that takes no backups."""
    invariants: Sequence[Invariant] = ()
    """What is always true of the crew's own data; drills ask it of restored databases."""
    note_proven: Callable[[Connection, Mapping[int, tuple[str, str]]], None] = lambda _connection, _positions: None
    """Tells the usage log, by partition, up to which epoch and entry a proven restore point contains it.

    In the transaction in which the point is marked as proven, or not at all."""
    log_borders: Callable[[int, str], Collection[str]] = lambda _partition, _epoch: ()
    """Names, of a partition and an epoch of the usage log, the entries at which restore points stand that are kept.

    A database that is restored from one of them goes on behind it: no compacted stretch may reach across."""
    guard: Guard = field(default_factory=Guard)
    """Whose messages, intents and counts are taken."""
    attempt: Attempt = field(default_factory=NoAttempt)
    """The hold of the job at hand on its run; set anew for each delivery."""
    show_progress: Callable[[float, str], None] = lambda _share, _text: None
    """Tells whoever watches the workers how far the job at hand is; must not raise."""


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
