"""Tables of the usage slice."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from tasks.schema import AutoId, Base, UtcDateTime


class UsageOffset(Base):
    """How far a partition of the log is contained in the counts."""

    __tablename__ = "usage_offsets"

    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    epoch: Mapped[str] = mapped_column(Text)
    """Which log the offset belongs to: `epoch` of `nightcrew:usage:meta`."""
    last_id: Mapped[str] = mapped_column(Text)
    """Id of the last stream entry applied, `0-0` for none."""
    proven_id: Mapped[str | None] = mapped_column(Text)
    """Id of the last entry contained in a restore point that was restored and found equal: what the log may forget."""
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class UsageProducer(Base):
    """The last flush of each producer that is contained in the counts of a partition."""

    __tablename__ = "usage_producers"
    __table_args__ = ({"sqlite_with_rowid": False},)

    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class UsageCount(Base):
    """Counts of one key in one context since its last reset."""

    __tablename__ = "usage_counts"
    __table_args__ = (
        # SQLite turns an overflowing sum into a float instead of an error: the check makes it an error.
        CheckConstraint("total BETWEEN 0 AND 9223372036854775807", name="total_is_a_count"),
        CheckConstraint("accepted + rejected <= total", name="outcomes_within_total"),
        {"sqlite_with_rowid": False},
    )

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    context: Mapped[str] = mapped_column(Text, primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    accepted: Mapped[int] = mapped_column(BigInteger)
    rejected: Mapped[int] = mapped_column(BigInteger)
    reset_total: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """What resets have taken off `total` so far: the history sums to `total + reset_total`."""
    reset_accepted: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    reset_rejected: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    reset_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class UsageHour(Base):
    """Uses of one key in one context within one hour; resets leave it alone."""

    __tablename__ = "usage_hours"
    __table_args__ = ({"sqlite_with_rowid": False},)

    hour: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Hours since 1970-01-01T00Z. First in the key, so that a drain writes one neighbourhood of the tree."""
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    context: Mapped[str] = mapped_column(Text, primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    accepted: Mapped[int] = mapped_column(BigInteger)
    rejected: Mapped[int] = mapped_column(BigInteger)


class UsageIncident(Base):
    """Something happened to the log itself that an operator has to know: a new epoch, a forced trim."""

    __tablename__ = "usage_incidents"
    __table_args__ = (Index(None, "happened_at"),)

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    partition: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    """`epoch_changed`, `log_rolled_back`, `trimmed_unproven`, `log_over_cap`, `log_gap` or `signature_unknown`."""
    detail: Mapped[str] = mapped_column(Text)
    happened_at: Mapped[datetime] = mapped_column(UtcDateTime)
