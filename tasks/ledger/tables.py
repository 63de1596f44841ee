"""Tables of the ledger slice."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time
from typing import Any

from sqlalchemy import JSON, Float, Index, Integer, Text
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


class DeadLetter(Base):
    """A message or log entry that no job could read, kept whole until an operator decides."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "received_at"),)

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
