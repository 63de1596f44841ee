"""Tables of the access log: what apps asked of their cache, and how far the log is taken in."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from tasks.schema import AutoId, Base, UtcDateTime


class CacheHour(Base):
    """What all apps together asked of one family of the cache within one hour, exactly."""

    __tablename__ = "cache_hours"
    __table_args__ = (
        # SQLite turns an overflowing sum into a float instead of an error: the check makes it an error.
        # One for each column: PostgreSQL writes several that are joined otherwise once they were dumped and loaded.
        *(
            CheckConstraint(f"{name} BETWEEN 0 AND 9223372036854775807", name=f"{name}_is_a_count")
            for name in ("requests", "sets", "deletes", "bytes_read", "bytes_written", "dropped")
        ),
        CheckConstraint("hits + misses = requests", name="a_request_hits_or_misses"),
        {"sqlite_with_rowid": False},
    )

    hour: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Hours since 1970-01-01T00Z."""
    family: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    """Gets."""
    hits: Mapped[int] = mapped_column(BigInteger)
    misses: Mapped[int] = mapped_column(BigInteger)
    sets: Mapped[int] = mapped_column(BigInteger)
    deletes: Mapped[int] = mapped_column(BigInteger)
    bytes_read: Mapped[int] = mapped_column(BigInteger)
    """Of the values that were given."""
    bytes_written: Mapped[int] = mapped_column(BigInteger)
    dropped: Mapped[int] = mapped_column(BigInteger)
    """Operations that are known to be in none of the counters above: an app had no room for them, or the log was
    trimmed before it was taken in. Such a loss stands in the hour in which it was told."""


class AccessOffset(Base):
    """How far the access log is contained in the counters; one row."""

    __tablename__ = "access_offsets"
    __table_args__ = ({"sqlite_with_rowid": False},)

    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    """The log's key in Redis."""
    epoch: Mapped[str] = mapped_column(Text)
    """Which log the offset belongs to: `epoch` of `nightcrew:access:meta`."""
    last_id: Mapped[str] = mapped_column(Text)
    """Id of the last stream entry taken in, `0-0` for none."""
    settled: Mapped[dict[str, Any]] = mapped_column(JSON)
    """By family: how many of the operations that this log ever told of are accounted for, as counted or as dropped."""
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AccessProducer(Base):
    """The last entry of each process that is contained in the counters."""

    __tablename__ = "access_producers"
    __table_args__ = (Index(None, "seen_at"), {"sqlite_with_rowid": False})

    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AccessIncident(Base):
    """Something happened to the access log itself that an operator has to know."""

    __tablename__ = "access_incidents"
    __table_args__ = (Index(None, "happened_at"),)

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    """`epoch_changed`, `log_rolled_back` or `counters_dropped`."""
    detail: Mapped[str] = mapped_column(Text)
    happened_at: Mapped[datetime] = mapped_column(UtcDateTime)
