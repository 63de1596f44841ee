"""The resources in SQL: taken, renewed and freed in the transactions of the runs that use them.

Whoever locks rows here has locked the row of the run before, and locks several in the order of their names: so no two
transactions wait for one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.ledger.resources import Resource, first_busy, is_held_by
from tasks.ledger.states import State
from tasks.ledger.store import ahead
from tasks.ledger.tables import JobRun, ResourceLease
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection, Engine, Row, Table

    from tasks.ledger.runs import Run

_TABLE: Final = cast("Table", ResourceLease.__table__)
_COLUMNS: Final = _TABLE.c
_NOBODY: Final[dict[str, Any]] = {
    "run_id": None,
    "run_fence": None,
    "worker": None,
    "taken_at": None,
    "lease_until": None,
}
_LOCK: Final = (
    select(_TABLE)
    .where(_COLUMNS.resource.in_(bindparam("names", expanding=True)))
    .order_by(_COLUMNS.resource)
    .with_for_update()
)
_TAKE: Final = (
    update(_TABLE)
    .where(_COLUMNS.resource == bindparam("name"))
    .values(
        fence=_COLUMNS.fence + 1,
        **{
            name: bindparam(f"new_{name}", type_=_COLUMNS[name].type)
            for name in ("run_id", "run_fence", "worker", "taken_at", "lease_until")
        },
    )
)
_RENEW: Final = (
    update(_TABLE)
    .where(_COLUMNS.run_id == bindparam("holder"), _COLUMNS.run_fence == bindparam("holder_fence"))
    .values(lease_until=bindparam("new_lease_until", type_=_COLUMNS.lease_until.type))
)
_FREE: Final = update(_TABLE).where(_COLUMNS.run_id == bindparam("holder")).values(**_NOBODY)


def take(
    connection: Connection, names: Collection[str], *, run: Run, worker: str, now: datetime, lease_until: datetime
) -> Resource | dict[str, int]:
    """Take resources for the claim `run`, all or none; give the fence of each, or the first that another run holds.

    What this claim holds already stays as it is.
    """
    for name in sorted(names):
        connection.execute(_insertion(connection.dialect.name).values(resource=name, fence=0))
    found = [_read(row) for row in connection.execute(_LOCK, {"names": sorted(names)})]
    in_use = any(one.run_id not in {None, run.id} for one in found)
    busy = first_busy(found, run.id, now=ahead.judged_at(connection, now) if in_use else now)
    if busy is not None:
        return busy
    fences = {}
    for resource in found:
        fences[resource.resource] = resource.fence
        if not is_held_by(resource, run_id=run.id, run_fence=run.fence):
            _take(connection, resource, run=run, worker=worker, now=now, lease_until=lease_until)
            fences[resource.resource] += 1
    return fences


def renew(connection: Connection, run: Run, *, lease_until: datetime) -> int:
    """Prolong what a claim holds; give the count of it. The caller compares it with what the claim has taken."""
    holder = {"holder": run.id, "holder_fence": run.fence, "new_lease_until": lease_until}
    return connection.execute(_RENEW, holder).rowcount


def held(connection: Connection, run: Run) -> int:
    """Count what a claim holds."""
    mine = select(_COLUMNS.resource).where(_COLUMNS.run_id == run.id, _COLUMNS.run_fence == run.fence)
    return len(connection.scalars(mine).all())


def free(connection: Connection, run_id: str) -> None:
    """Let go of whatever a run holds."""
    connection.execute(_FREE, {"holder": run_id})


def free_orphans(engine: Engine) -> list[Resource]:
    """Free what is held by a run that does not run any more, or by an earlier claim of it; give it as it stood.

    Nothing leaves such a hold behind but a database that was mended by hand, or restored from an older copy.
    """
    holds_it = (JobRun.id == _COLUMNS.run_id) & (JobRun.state == State.RUNNING) & (JobRun.fence == _COLUMNS.run_fence)
    orphan = (_COLUMNS.run_id.is_not(None), ~exists().where(holds_it))
    with begin_read(engine) as connection:
        found = [_read(row) for row in connection.execute(select(_TABLE).where(*orphan))]
    if not found:
        return []
    with begin_write(engine) as connection:
        for resource in found:
            same = (_COLUMNS.resource == resource.resource) & (_COLUMNS.fence == resource.fence)
            connection.execute(update(_TABLE).where(same, *orphan).values(**_NOBODY))
    return found


def held_now(engine: Engine) -> list[Resource]:
    """List the resources that are held, in the order of their names."""
    with begin_read(engine) as connection:
        taken = select(_TABLE).where(_COLUMNS.run_id.is_not(None)).order_by(_COLUMNS.resource)
        return [_read(row) for row in connection.execute(taken)]


def _take(
    connection: Connection, resource: Resource, *, run: Run, worker: str, now: datetime, lease_until: datetime
) -> None:
    holder = {"run_id": run.id, "run_fence": run.fence, "worker": worker, "taken_at": now, "lease_until": lease_until}
    connection.execute(_TAKE, {"name": resource.resource, **{f"new_{name}": value for name, value in holder.items()}})


def _insertion(dialect_name: str) -> Any:
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    return dialect.insert(_TABLE).on_conflict_do_nothing()


def _read(row: Row[Any]) -> Resource:
    return Resource(**row._mapping)  # noqa: SLF001  the documented way to a row's names
