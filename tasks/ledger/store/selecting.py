"""Reading the runs that an operator means, and what belongs to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, func, select, true

from tasks.ledger.resources import Resource
from tasks.ledger.states import State
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun, ResourceLease
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from tasks.ledger.filters import Filter
    from tasks.ledger.runs import Run


def newest(engine: Engine, wanted: Filter, *, limit: int) -> list[Run]:
    """List the runs that pass, the last queued first."""
    query = select(*COLUMNS).where(_passes(wanted)).order_by(JobRun.queued_at.desc(), JobRun.id.desc()).limit(limit)
    with begin_read(engine) as connection:
        return [read_run(row) for row in connection.execute(query)]


def ids(engine: Engine, wanted: Filter, *, limit: int | None) -> list[str]:
    """List the ids of the runs that pass, the first queued first."""
    query = select(JobRun.id).where(_passes(wanted)).order_by(JobRun.queued_at, JobRun.id).limit(limit)
    with begin_read(engine) as connection:
        return list(connection.scalars(query))


def by_ids(engine: Engine, run_ids: Sequence[str]) -> list[Run]:
    """Read these runs, in this order; those that are gone are left out."""
    with begin_read(engine) as connection:
        rows = connection.execute(select(*COLUMNS).where(JobRun.id.in_(run_ids)))
        found = {run.id: run for run in map(read_run, rows)}
    return [found[run_id] for run_id in run_ids if run_id in found]


def descendants(engine: Engine, run_id: str, *, limit: int) -> list[Run]:
    """List what a run asked for, and what that asked for, and so on; the first asked for first."""
    family = select(JobRun.id).where(JobRun.parent_id == run_id).cte("family", recursive=True)
    # UNION, not UNION ALL: rows that were mended by hand into a circle must not keep the query going for ever.
    family = family.union(select(JobRun.id).where(JobRun.parent_id == family.c.id))
    query = select(*COLUMNS).where(JobRun.id.in_(select(family.c.id))).order_by(JobRun.enqueued_at, JobRun.id)
    with begin_read(engine) as connection:
        return [read_run(row) for row in connection.execute(query.limit(limit))]


def live(engine: Engine, *, limit: int) -> list[Run]:
    """List the runs that have not ended: those at work, the longest first, then those that wait, in their order."""
    at_work = select(*COLUMNS).where(JobRun.state == State.RUNNING).order_by(JobRun.started_at, JobRun.id)
    waiting = select(*COLUMNS).where(JobRun.state == State.QUEUED).order_by(JobRun.queued_at, JobRun.id)
    with begin_read(engine) as connection:
        found = [read_run(row) for row in connection.execute(at_work.limit(limit))]
        left = limit - len(found)
        return found + [read_run(row) for row in connection.execute(waiting.limit(left)) if left]


def ahead_of(engine: Engine, run: Run) -> int:
    """Count the queued runs whose message was put on the same queue before that of this one."""
    query = select(func.count()).where(
        JobRun.state == State.QUEUED, JobRun.queue == run.queue, JobRun.published_at < run.published_at
    )
    with begin_read(engine) as connection:
        return connection.scalar(query) or 0


def leases_of(engine: Engine, run_id: str) -> list[Resource]:
    """List what a run holds, in the order of the names."""
    held = select(ResourceLease.__table__).where(ResourceLease.run_id == run_id).order_by(ResourceLease.resource)
    with begin_read(engine) as connection:
        return [Resource(**row) for row in connection.execute(held).mappings()]


def _passes(wanted: Filter) -> ColumnElement[bool]:
    exact = {
        "kind": wanted.kind,
        "entry": wanted.entry,
        "correlation_id": wanted.correlation_id,
        "parent_id": wanted.parent_id,
    }
    conditions = [getattr(JobRun, name) == value for name, value in exact.items() if value is not None]
    if wanted.states:
        conditions.append(JobRun.state.in_(wanted.states))
    if wanted.since is not None:
        conditions.append(JobRun.queued_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(JobRun.queued_at < wanted.until)
    if wanted.error is not None:
        conditions.append(JobRun.error.icontains(wanted.error, autoescape=True))
    return and_(true(), *conditions)
