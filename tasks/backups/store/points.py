"""Writing the restore points, in transactions of the caller: `begin_write` of `tasks.transactions`.

The vaults are the truth. What a vault says of a point (`_FACTS`) is written over what is here; what only people and
restores know (held, proven, why it is suspect) stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.backups.points import PointState
from tasks.backups.store.listing import PRIMARY
from tasks.backups.tables import PointCopy, StoredPoint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Insert, Row

    from tasks.backups.points import RestorePoint

_FACTS: Final = (
    "profile",
    "kind",
    "chain",
    "sequence",
    "parent_id",
    "reason",
    "taken_at",
    "size_bytes",
    "staged_bytes",
    "database_bytes",
    "rows",
    "is_unchanged",
    "log_positions",
)
"""What the manifest of a point says, and what cannot change."""

_AT_ONCE: Final = 500
"""Ids in one statement: SQLite took no more than 999 parameters before 3.32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPoint:
    """A point that a vault has."""

    point: RestorePoint
    """Its `snapshot_id` is the one in this vault."""
    stored_at: datetime
    run_id: str | None = None
    """The run that took it, if it is one of this machine's ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What became of the points that were found."""

    added: Sequence[str]
    """Ids that were not here."""
    repaired: Mapping[str, Sequence[str]]
    """By id the fields that said something else here."""


def adopt(connection: Connection, found: Collection[FoundPoint], *, vault: str) -> Adoption:
    """Write down points that a vault has, and correct what is said otherwise of them here.

    This is also how a point is recorded that was just taken: a run that is tried again finds it here. A point that was
    thought damaged and is whole in the primary vault is mended; every other state stays, and so do holds and proofs.
    """
    by_id = {one.point.id: one for one in found}
    known = {row.id: row for ids in _batches(by_id) for row in _rows(connection, ids)}
    new = [one for point_id, one in by_id.items() if point_id not in known]
    if new:
        connection.execute(_insertion(connection, StoredPoint), [_row_of(one) for one in new])
    repaired = {
        point_id: _repair(connection, row, by_id[point_id], mends=vault == PRIMARY) for point_id, row in known.items()
    }
    names = _copy_names(connection, vault, by_id)
    for point_id, one in by_id.items():
        if names.get(point_id) != one.point.snapshot_id:
            note_copy(connection, point_id, vault=vault, snapshot_id=one.point.snapshot_id, stored_at=one.stored_at)
    return Adoption(
        added=[one.point.id for one in new],
        repaired={point_id: fields for point_id, fields in repaired.items() if fields},
    )


def note_copy(connection: Connection, point_id: str, *, vault: str, snapshot_id: str, stored_at: datetime) -> None:
    """Note under which name a vault has a point. Another name than before is not verified yet."""
    values: dict[str, Any] = {"snapshot_id": snapshot_id, "stored_at": stored_at}
    connection.execute(_insertion(connection, PointCopy), {"point_id": point_id, "vault": vault, **values})
    has_another_name = (
        PointCopy.point_id == point_id,
        PointCopy.vault == vault,
        PointCopy.snapshot_id != snapshot_id,
    )
    connection.execute(update(PointCopy).where(*has_another_name).values(**values, verified_at=None))


def note_verified(connection: Connection, point_ids: Collection[str], *, vault: str, at: datetime) -> int:
    """Note that copies were listed with every member at its size; give how many there are."""
    is_later = or_(PointCopy.verified_at.is_(None), PointCopy.verified_at <= at)
    return sum(
        connection.execute(
            update(PointCopy)
            .where(PointCopy.vault == vault, PointCopy.point_id.in_(ids), is_later)
            .values(verified_at=at)
        ).rowcount
        for ids in _batches(point_ids)
    )


def mark_damaged(connection: Connection, point_ids: Collection[str], *, reason: str) -> int:
    """Write down that points cannot be restored; give how many there are. The first reason stays."""
    return _move(connection, point_ids, (PointState.STORED, PointState.SUSPECT), PointState.DAMAGED, reason)


def mark_suspect(connection: Connection, point_ids: Collection[str], *, reason: str) -> int:
    """Write down that points look too small; give how many of them were in order until now."""
    return _move(connection, point_ids, (PointState.STORED,), PointState.SUSPECT, reason)


def accept(connection: Connection, point_ids: Collection[str], *, reason: str) -> int:
    """Write down that somebody found suspect points right; give how many were suspect.

    Raises:
        ValueError: there is no reason. It is what tells an accepted point from any other.
    """
    if not reason:
        msg = "say who accepts a suspect point, and why"
        raise ValueError(msg)
    return _move(connection, point_ids, (PointState.SUSPECT,), PointState.STORED, reason)


def mark_mended(connection: Connection, point_ids: Collection[str]) -> int:
    """Write down that damaged points can be restored again; give how many were damaged."""
    return _move(connection, point_ids, (PointState.DAMAGED,), PointState.STORED, "")


def hold(connection: Connection, point_id: str, *, is_held: bool) -> bool:
    """Keep a point whatever the retention says, or no longer; say whether there is such a point."""
    change = update(StoredPoint).where(StoredPoint.id == point_id).values(is_held=is_held)
    return connection.execute(change).rowcount == 1


def mark_proven(connection: Connection, point_id: str, *, at: datetime) -> bool:
    """Write down when a point was restored and found equal; say whether that is news. A later proof stays."""
    is_later = or_(StoredPoint.proven_at.is_(None), StoredPoint.proven_at < at)
    change = update(StoredPoint).where(StoredPoint.id == point_id, is_later).values(proven_at=at)
    return connection.execute(change).rowcount == 1


def forget_copies(connection: Connection, point_ids: Collection[str], *, vault: str) -> list[str]:
    """Forget what a vault has deleted; give the ids of the points that no vault has any more, which are forgotten too.

    To be called before the vault deletes them: killed in between, a list never shows what does not restore, and the
    next run adopts what is still there.
    """
    gone: list[str] = []
    for ids in _batches(point_ids):
        connection.execute(delete(PointCopy).where(PointCopy.vault == vault, PointCopy.point_id.in_(ids)))
        nowhere = (StoredPoint.id.in_(ids), ~exists().where(PointCopy.point_id == StoredPoint.id))
        gone += connection.scalars(select(StoredPoint.id).where(*nowhere).order_by(StoredPoint.id))
        connection.execute(delete(StoredPoint).where(*nowhere))
    return gone


def count_copies(connection: Connection, *, vault: str) -> int:
    """Count the points that a vault has."""
    return connection.scalar(select(func.count()).select_from(PointCopy).where(PointCopy.vault == vault)) or 0


def log_positions_json(point: RestorePoint) -> dict[str, dict[str, str]]:
    """Give the positions as the table keeps them: JSON has only text as names."""
    return {
        str(partition): {"epoch": position.epoch, "last_id": position.last_id}
        for partition, position in sorted(point.log_positions.items())
    }


def _repair(connection: Connection, row: Row[Any], found: FoundPoint, *, mends: bool) -> list[str]:
    wanted = _row_of(found)
    names = [*_FACTS, "run_id"] if row.run_id is None else list(_FACTS)
    changes = {name: wanted[name] for name in names if getattr(row, name) != wanted[name]}
    if mends and row.state == PointState.DAMAGED and found.point.state is not PointState.DAMAGED:
        changes |= {"state": wanted["state"], "state_reason": wanted["state_reason"]}
    if changes:
        connection.execute(update(StoredPoint).where(StoredPoint.id == row.id).values(**changes))
    return sorted(changes)


def _row_of(found: FoundPoint) -> dict[str, Any]:
    point = found.point
    return {
        "id": point.id,
        "run_id": found.run_id,
        "profile": point.profile,
        "kind": point.kind,
        "chain": point.chain,
        "sequence": point.sequence,
        "parent_id": point.parent_id,
        "reason": point.reason,
        "state": point.state.value,
        "state_reason": point.state_reason,
        "taken_at": point.taken_at,
        "finished_at": point.finished_at,
        "size_bytes": point.size_bytes,
        "staged_bytes": point.staged_bytes,
        "database_bytes": point.database_bytes,
        "added_bytes": point.added_bytes,
        "rows": point.rows,
        "is_unchanged": point.is_unchanged,
        "is_held": point.is_held,
        "proven_at": point.proven_at,
        "log_positions": log_positions_json(point),
        "predicted_rto_s": point.predicted_rto_s,
    }


def _move(
    connection: Connection, point_ids: Collection[str], origins: Sequence[PointState], to: PointState, reason: str
) -> int:
    return sum(
        connection.execute(
            update(StoredPoint)
            .where(StoredPoint.id.in_(ids), StoredPoint.state.in_([origin.value for origin in origins]))
            .values(state=to.value, state_reason=reason)
        ).rowcount
        for ids in _batches(point_ids)
    )


def _insertion(connection: Connection, table: type[StoredPoint | PointCopy]) -> Insert:
    """Insert what is not there yet: another worker may have been faster, although the lease is against it."""
    key = [column.name for column in table.__table__.primary_key]
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing(index_elements=key)
    return postgresql.insert(table).on_conflict_do_nothing(index_elements=key)


def _copy_names(connection: Connection, vault: str, point_ids: Collection[str]) -> dict[str, str]:
    names = select(PointCopy.point_id, PointCopy.snapshot_id).where(PointCopy.vault == vault)
    found = (connection.execute(names.where(PointCopy.point_id.in_(ids))) for ids in _batches(point_ids))
    return {row.point_id: row.snapshot_id for rows in found for row in rows}


def _rows(connection: Connection, ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Read rows that may be changed: nobody else changes them before the end of the transaction."""
    columns = StoredPoint.__table__.columns
    return connection.execute(select(*columns).where(StoredPoint.id.in_(ids)).with_for_update()).all()


def _batches(ids: Collection[str]) -> Iterator[list[str]]:
    # In one order for everybody, so that two writers do not wait for each other's rows.
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]
