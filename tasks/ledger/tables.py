"""Tables of the ledger slice."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from tasks.schema import AutoId, Base, UtcDateTime


class JobRun(Base):
    """One job from its intent to its one outcome."""

    __tablename__ = "job_runs"
    __table_args__ = (
        Index("uq_job_runs_kind_dedup_key", "kind", "dedup_key", unique=True),
        Index(None, "state", "queued_at"),
        Index(None, "state", "republish_at"),
        Index(None, "state", "lease_until"),
        Index(None, "kind", "queued_at"),
        Index(None, "updated_at"),
        Index(None, "entry", "slot_at"),
        Index(None, "parent_id"),
        Index(None, "state", "finished_at"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    """UUIDv7, the same as the Celery task's id."""
    kind: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    dedup_key: Mapped[str | None] = mapped_column(Text)
    """Unique per kind; NULL for jobs that may stand beside one another."""
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer, default=1)
    """Grows with each change of state; tells the mirror which of two writes is the later one."""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """Counted up before the work, so that a job that kills its worker is counted too."""
    max_attempts: Mapped[int | None] = mapped_column(Integer)
    """Limit of the retry policy under which it was last claimed; NULL before the first claim."""
    fence: Mapped[int] = mapped_column(Integer, default=0)
    """Grows with each claim; a write that carries an older fence changes nothing."""
    worker: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    progress: Mapped[float | None] = mapped_column(Float)
    """Share of the work done, 0 to 1."""
    progress_text: Mapped[str | None] = mapped_column(Text)
    result: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)
    correlation_id: Mapped[str] = mapped_column(Text)
    enqueued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the app or the timetable asked for it, by their clock."""
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it last entered the state `queued`."""
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its message was last put on the queue by anyone; NULL while no message is known to be out."""
    republish_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the reconciler looks whether a queued run needs another message."""
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its latest attempt began."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When its state last changed."""
    first_started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its first attempt began; what was late once stays late."""
    parent_id: Mapped[str | None] = mapped_column(Text)
    """The run that asked for this one while it worked."""
    entry: Mapped[str | None] = mapped_column(Text)
    """Entry of the timetable whose slot this is; NULL for what was asked for by hand or by an app."""
    slot_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    late_after: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Slot and grace: a slot that starts later is late, and says so."""
    start_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """A first attempt may not begin later than this: the run is missed instead. NULL: better late than never."""
    watched: Mapped[bool] = mapped_column(server_default=false())
    """Whether someone outside is told when it starts and ends: each change writes a row of `pings`."""
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Set while it runs; the work stops at its next checkpoint."""
    cancel_reason: Mapped[str | None] = mapped_column(Text)


class RunEvent(Base):
    """One change of a run, written in the transaction of the change: its timeline."""

    __tablename__ = "run_events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: Mapped[str] = mapped_column(ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True)
    """That of the run after the change."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    event: Mapped[str] = mapped_column(Text)
    """What happened: a value of `events.Event`."""
    state: Mapped[str] = mapped_column(Text)
    """Where the run stood after it."""
    attempt: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[str | None] = mapped_column(Text)
    """Why."""


class ResourceLease(Base):
    """Something that one run at a time may use. The row stays when it is free, so that its fence goes on growing."""

    __tablename__ = "resource_leases"
    __table_args__ = (Index(None, "run_id"),)

    resource: Mapped[str] = mapped_column(Text, primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger)
    """Grows each time someone takes the resource."""
    run_id: Mapped[str | None] = mapped_column(Text)
    """Who holds it; NULL when it is free."""
    run_fence: Mapped[int | None] = mapped_column(Integer)
    """The fence of that run when it took the resource."""
    worker: Mapped[str | None] = mapped_column(Text)
    taken_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Renewed with the lease of the run; whoever comes later may take the resource."""


class ScheduleState(Base):
    """What the ledger remembers of an entry of the timetable."""

    __tablename__ = "schedule_entries"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    walked_until: Mapped[datetime] = mapped_column(UtcDateTime)
    """Every slot up to here has its run."""
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Slots from `paused_at` up to here are called off. A pause always has an end."""
    pause_reason: Mapped[str | None] = mapped_column(Text)
    paused_by: Mapped[str | None] = mapped_column(Text)


class Ping(Base):
    """A word to a dead-man switch outside, written in the transaction of the change that it tells of."""

    __tablename__ = "pings"
    __table_args__ = (Index(None, "sent_at", "try_at"), Index(None, "entry", "id"))

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    entry: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str] = mapped_column(Text)
    signal: Mapped[str] = mapped_column(Text)
    """`start`, `success`, `fail` or `log`, as healthchecks.io calls them."""
    detail: Mapped[str | None] = mapped_column(Text)
    """Sent as the body."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    try_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it is sent, or sent again."""
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it got through, or was given up; NULL while it is still to be sent."""
    error: Mapped[str | None] = mapped_column(Text)
    """What the last try that failed met with."""


class DeadLetter(Base):
    """A message or log entry that no job could read, kept whole until an operator decides."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "received_at"), Index(None, "retried_at"))

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    source: Mapped[str] = mapped_column(Text)
    """Queue or stream it came from."""
    source_id: Mapped[str] = mapped_column(Text, unique=True)
    """What makes it one: stream and entry id. Taking the same one in twice gives one row."""
    kind: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    """The message as JSON text; bytes that are not UTF-8 stand as base64 under `{"base64": …}`."""
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retried_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
