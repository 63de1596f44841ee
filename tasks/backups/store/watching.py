"""Checks and sizes of the vaults in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select

from tasks.backups.storage import KEPT, Check, Measure
from tasks.backups.tables import VaultCheck, VaultMeasure
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

BATCH: Final = 500


def record_check(connection: Connection, check: Check, *, vault: str) -> None:
    """Write down what a check found."""
    values = {
        "vault": vault,
        "checked_at": check.checked_at,
        "slice": check.slice,
        "slices": check.slices,
        "is_sound": check.is_sound,
        "detail": check.detail,
    }
    connection.execute(insert(VaultCheck).values(**values))


def record_measure(connection: Connection, measure: Measure, *, vault: str) -> None:
    """Write down how large a vault is."""
    values = {
        "vault": vault,
        "measured_at": measure.measured_at,
        "points": measure.points,
        "stored_bytes": measure.stored_bytes,
        "staged_bytes": measure.staged_bytes,
        "size_bytes": measure.size_bytes,
        "free_bytes": measure.free_bytes,
    }
    connection.execute(insert(VaultMeasure).values(**values))


def checks(engine: Engine, vault: str, *, since: datetime) -> list[Check]:
    """List the checks of a vault, the oldest first."""
    columns = (VaultCheck.checked_at, VaultCheck.slice, VaultCheck.slices, VaultCheck.is_sound, VaultCheck.detail)
    wanted = select(*columns).where(VaultCheck.vault == vault, VaultCheck.checked_at >= since)
    with begin_read(engine) as connection:
        rows = connection.execute(wanted.order_by(VaultCheck.checked_at, VaultCheck.id)).mappings()
        return [Check(**row) for row in rows]


def last_check(engine: Engine, vault: str) -> Check | None:
    """Give the newest check of a vault, of whatever kind."""
    columns = (VaultCheck.checked_at, VaultCheck.slice, VaultCheck.slices, VaultCheck.is_sound, VaultCheck.detail)
    newest = select(*columns).where(VaultCheck.vault == vault)
    with begin_read(engine) as connection:
        rows = connection.execute(newest.order_by(VaultCheck.checked_at.desc(), VaultCheck.id.desc()).limit(1))
        row = rows.mappings().one_or_none()
    return None if row is None else Check(**row)


def measures(engine: Engine, vault: str, *, since: datetime) -> list[Measure]:
    """List the sizes of a vault, the oldest first."""
    columns = [column for column in VaultMeasure.__table__.columns if column.name not in {"id", "vault"}]
    wanted = select(*columns).where(VaultMeasure.vault == vault, VaultMeasure.measured_at >= since)
    with begin_read(engine) as connection:
        rows = connection.execute(wanted.order_by(VaultMeasure.measured_at, VaultMeasure.id)).mappings()
        return [Measure(**row) for row in rows]


def forget_old(engine: Engine, *, now: datetime) -> int:
    """Delete up to `BATCH` checks and as many sizes that are older than they are kept; give their count."""
    before = now - KEPT
    return _forget(engine, VaultCheck, VaultCheck.checked_at < before) + _forget(
        engine, VaultMeasure, VaultMeasure.measured_at < before
    )


def _forget(engine: Engine, table: Any, is_old: Any) -> int:
    with begin_read(engine) as connection:  # most of the time there is nothing, and no writer has to wait for that
        ids = connection.scalars(select(table.id).where(is_old).order_by(table.id).limit(BATCH)).all()
    if not ids:
        return 0
    with begin_write(engine) as connection:
        return connection.execute(delete(table).where(table.id.in_(ids))).rowcount
