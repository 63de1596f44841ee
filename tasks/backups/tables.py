"""Tables of the backups slice. They only mirror the vaults: `backup list --from-vault` makes them again."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from tasks.schema import AutoId, Base, UtcDateTime


class StoredPoint(Base):
    """A restore point. See `tasks.backups.points.RestorePoint` for what each field means."""

    __tablename__ = "restore_points"
    __table_args__ = (Index(None, "profile", "taken_at"), Index(None, "chain", "sequence"))

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(Text, unique=True)
    """The run that took it; NULL for one of another machine, found in the vault."""
    profile: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    chain: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(Integer)
    parent_id: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    state_reason: Mapped[str] = mapped_column(Text, default="")
    taken_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    staged_bytes: Mapped[int] = mapped_column(BigInteger)
    added_bytes: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    is_unchanged: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    is_held: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    proven_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    log_positions: Mapped[dict[str, Any]] = mapped_column(JSON)
    """By partition: `{"epoch", "last_id"}`."""
    predicted_rto_s: Mapped[float | None] = mapped_column(Float)
    database_bytes: Mapped[int | None] = mapped_column(BigInteger)


class PointCopy(Base):
    """A vault that holds a restore point; the first one is where it was taken to."""

    __tablename__ = "restore_point_copies"

    point_id: Mapped[str] = mapped_column(ForeignKey("restore_points.id", ondelete="CASCADE"), primary_key=True)
    vault: Mapped[str] = mapped_column(Text, primary_key=True)
    """Name of the vault in the settings."""
    snapshot_id: Mapped[str] = mapped_column(Text)
    stored_at: Mapped[datetime] = mapped_column(UtcDateTime)
    verified_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it was last listed there with every member at its size."""


class VaultCheck(Base):
    """A check of a vault: its structure, and perhaps a slice of what it stores."""

    __tablename__ = "vault_checks"
    __table_args__ = (Index(None, "vault", "checked_at"),)

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    vault: Mapped[str] = mapped_column(Text)
    checked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    slice: Mapped[int | None] = mapped_column(Integer)
    """Which slice of the data was read, from 1; NULL for the structure alone."""
    slices: Mapped[int | None] = mapped_column(Integer)
    is_sound: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str] = mapped_column(Text)


class VaultMeasure(Base):
    """How large a vault was at a moment: what growth and the days until it is full are worked out from."""

    __tablename__ = "vault_measures"
    __table_args__ = (Index(None, "vault", "measured_at"),)

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    vault: Mapped[str] = mapped_column(Text)
    measured_at: Mapped[datetime] = mapped_column(UtcDateTime)
    points: Mapped[int] = mapped_column(Integer)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    """What the vault takes where it lies."""
    staged_bytes: Mapped[int] = mapped_column(BigInteger)
    """What its points were when they were handed over, before the engine shared and compressed them."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    """What a restore of each of its points would write, added up."""
    free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What is left on its disk; NULL where that cannot be known (S3)."""


class StoredDrill(Base):
    """A restore test. See `tasks.backups.drills.records.Drill` for what each field means."""

    __tablename__ = "drills"
    __table_args__ = (Index(None, "finished_at"), Index(None, "point_id", "finished_at"))

    id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(Text)
    """The run that did it; NULL for one from the command line."""
    way: Mapped[str] = mapped_column(Text)
    point_id: Mapped[str | None] = mapped_column(Text)
    """NULL where no point could be chosen. No foreign key: the point may go, what was found stays."""
    profile: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)
    verdict: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    chosen_because: Mapped[str] = mapped_column(Text)
    fetch_s: Mapped[float | None] = mapped_column(Float)
    apply_s: Mapped[float | None] = mapped_column(Float)
    validate_s: Mapped[float | None] = mapped_column(Float)
    rto_s: Mapped[float | None] = mapped_column(Float)
    rpo_s: Mapped[float | None] = mapped_column(Float)
    checks: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    mutants: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    killed: Mapped[int] = mapped_column(Integer)
    total: Mapped[int] = mapped_column(Integer)
    timeline: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
