"""Reading the restore points and where they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  a field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, exists, or_, select, true

from tasks.backups.lineage import Lineage
from tasks.backups.points import LogPosition, PointState, RestorePoint
from tasks.backups.tables import PointCopy, StoredPoint
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Engine, Row

_COLUMNS: Final = tuple(column for column in StoredPoint.__table__.columns if column.name != "run_id")
_PAGE: Final = 500
PRIMARY: Final = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A point in a vault."""

    vault: str
    snapshot_id: str
    stored_at: datetime
    verified_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Behind which point a page begins."""

    taken_at: datetime
    id: str

    @classmethod
    def after(cls, point: RestorePoint) -> Cursor:
        """Begin behind this point."""
        return cls(taken_at=point.taken_at, id=point.id)


def newest(
    engine: Engine,
    *,
    profile: str | None = None,
    vault: str | None = None,
    after: Cursor | None = None,
    limit: int = _PAGE,
) -> list[RestorePoint]:
    """List a page of points, the newest first; with `vault` only those that are in it, named as it names them."""
    conditions: list[ColumnElement[bool]] = [true()]
    if profile is not None:
        conditions.append(StoredPoint.profile == profile)
    if vault is not None:
        conditions.append(exists().where(PointCopy.point_id == StoredPoint.id, PointCopy.vault == vault))
    if after is not None:
        same = and_(StoredPoint.taken_at == after.taken_at, StoredPoint.id < after.id)
        conditions.append(or_(StoredPoint.taken_at < after.taken_at, same))
    return _read(engine, *conditions, limit=limit, vault=vault)


def every(engine: Engine, *, profile: str | None = None, vault: str | None = None) -> Iterator[RestorePoint]:
    """Give all points a page at a time, the newest first, as `newest` does."""
    after: Cursor | None = None
    while page := newest(engine, profile=profile, vault=vault, after=after):
        yield from page
        after = Cursor.after(page[-1])


def by_id(engine: Engine, point_id: str) -> RestorePoint | None:
    """Find a point."""
    found = _read(engine, StoredPoint.id == point_id, limit=1)
    return found[0] if found else None


def by_run(engine: Engine, run_id: str) -> RestorePoint | None:
    """Find the point that a run has taken."""
    found = _read(engine, StoredPoint.run_id == run_id, limit=1)
    return found[0] if found else None


def by_prefix(engine: Engine, prefix: str, *, limit: int = 10) -> list[RestorePoint]:
    """Find the points whose id begins so, the newest first."""
    return _read(engine, StoredPoint.id.startswith(prefix, autoescape=True), limit=limit)


def newest_proven(engine: Engine, *, profile: str | None = None) -> RestorePoint | None:
    """Find the newest point that was restored, found equal, and is not damaged since."""
    proven = [StoredPoint.proven_at.is_not(None), StoredPoint.state != PointState.DAMAGED.value]
    if profile is not None:
        proven.append(StoredPoint.profile == profile)
    found = _read(engine, *proven, limit=1)
    return found[0] if found else None


def path_to(engine: Engine, point_id: str) -> tuple[RestorePoint, ...]:
    """Give what a restore of a point needs, the full first.

    Raises:
        BrokenLineageError: the point or a part of its chain is not here.
    """
    chain = select(StoredPoint.chain).where(StoredPoint.id == point_id).scalar_subquery()
    points = _read(engine, StoredPoint.chain == chain, limit=None)
    return Lineage(points).path_to(point_id)


def copies(engine: Engine, point_ids: Collection[str]) -> dict[str, list[Copy]]:
    """Give for each of these points where it is, the primary vault first."""
    with begin_read(engine) as connection:
        return _copies(connection, sorted(point_ids))


def snapshots_in(engine: Engine, vault: str) -> dict[str, str]:
    """Give by point the name that a vault has for it."""
    query = select(PointCopy.point_id, PointCopy.snapshot_id).where(PointCopy.vault == vault)
    with begin_read(engine) as connection:
        return {row.point_id: row.snapshot_id for row in connection.execute(query.order_by(PointCopy.point_id))}


def _read(
    engine: Engine, *conditions: ColumnElement[bool], limit: int | None, vault: str | None = None
) -> list[RestorePoint]:
    query = select(*_COLUMNS).where(*conditions).order_by(StoredPoint.taken_at.desc(), StoredPoint.id.desc())
    with begin_read(engine) as connection:
        rows = connection.execute(query.limit(limit)).all()
        found = _copies(connection, [row.id for row in rows])
    return [_point_of(row, found.get(row.id, ()), vault) for row in rows]


def _copies(connection: Connection, point_ids: Sequence[str]) -> dict[str, list[Copy]]:
    found: defaultdict[str, list[Copy]] = defaultdict(list)
    for start in range(0, len(point_ids), _PAGE):
        ids = point_ids[start : start + _PAGE]
        for row in connection.execute(select(PointCopy.__table__).where(PointCopy.point_id.in_(ids))).mappings():
            values: Mapping[str, Any] = {name: value for name, value in row.items() if name != "point_id"}
            found[row["point_id"]].append(Copy(**values))
    for places in found.values():
        places.sort(key=lambda copy: (copy.vault != PRIMARY, copy.stored_at, copy.vault))
    return dict(found)


def _point_of(row: Row[Any], places: Sequence[Copy], vault: str | None) -> RestorePoint:
    values = dict(row._mapping)  # noqa: SLF001  the documented way to a row's names
    names = (copy.snapshot_id for copy in places if vault in {None, copy.vault})
    positions = values.pop("log_positions")
    return RestorePoint(
        **{**values, "state": PointState(values["state"])},
        snapshot_id=next(names, ""),
        log_positions={int(partition): LogPosition(**position) for partition, position in positions.items()},
    )
