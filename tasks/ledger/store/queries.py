"""Reading the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from tasks.ledger.runs import Run
from tasks.ledger.states import State
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Engine, Row

    from tasks.ledger.runs import WantedRun

COLUMNS = tuple(JobRun.__table__.columns)
"""All columns of a run, in the order of the table."""


def read_run(row: Row[Any]) -> Run:
    """Make the value of a row of `COLUMNS`."""
    values = dict(row._mapping)  # noqa: SLF001  the documented way to a row's names
    return Run(**{**values, "state": State(values["state"])})


def by_id(engine: Engine, run_id: str) -> Run | None:
    """Find a run."""
    found = _read(engine, JobRun.id == run_id, limit=1)
    return found[0] if found else None


def by_prefix(engine: Engine, prefix: str, *, limit: int = 2) -> list[Run]:
    """Find the runs whose id begins so."""
    return _read(engine, JobRun.id.startswith(prefix, autoescape=True), limit=limit)


def due_for_publication(engine: Engine, *, now: datetime, limit: int) -> list[Run]:
    """List queued runs that nobody has started in time, the longest due first."""
    due = (JobRun.state == State.QUEUED) & (JobRun.republish_at <= now)
    return _read(engine, due, order=(JobRun.republish_at, JobRun.id), limit=limit)


def changed_since(engine: Engine, instant: datetime, *, after_id: str, limit: int) -> list[Run]:
    """List runs in the order in which their state last changed, from a position on.

    Slots that were over when their runs were written are left out: nobody can have heard of these runs, and a month of
    downtime leaves tens of thousands of them.
    """
    later = (JobRun.updated_at > instant) | ((JobRun.updated_at == instant) & (JobRun.id > after_id))
    was_over = JobRun.finished_at.is_not(None) & (JobRun.finished_at == JobRun.queued_at)
    unheard_of = JobRun.entry.is_not(None) & JobRun.first_started_at.is_(None) & was_over
    return _read(engine, later & ~unheard_of, order=(JobRun.updated_at, JobRun.id), limit=limit)


def count_by_state(engine: Engine) -> dict[State, int]:
    """Count the runs of each state that has any."""
    with begin_read(engine) as connection:
        rows = connection.execute(select(JobRun.state, func.count()).group_by(JobRun.state))
        return {State(state): count for state, count in rows}


def exists(engine: Engine, run_id: str) -> bool:
    """Say whether the ledger knows a run."""
    with begin_read(engine) as connection:
        return connection.scalar(select(JobRun.id).where(JobRun.id == run_id)) is not None


def duplicates(engine: Engine, wanted: Sequence[WantedRun]) -> list[WantedRun]:
    """Give those of the wanted runs that the ledger does not know, after they were all inserted."""
    ids = [run.id for run in wanted if run.dedup_key is not None]
    if not ids:
        return []
    with begin_read(engine) as connection:
        known = set(connection.scalars(select(JobRun.id).where(JobRun.id.in_(ids))))
    return [run for run in wanted if run.dedup_key is not None and run.id not in known]


def _read(
    engine: Engine, condition: ColumnElement[bool], *, order: Sequence[Any] = (JobRun.id,), limit: int
) -> list[Run]:
    with begin_read(engine) as connection:
        rows = connection.execute(select(*COLUMNS).where(condition).order_by(*order).limit(limit))
        return [read_run(row) for row in rows]
