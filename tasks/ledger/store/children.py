"""The runs that a run asks for while it works, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tasks.errors import CancelledError
from tasks.ledger.states import State
from tasks.ledger.store import changes, runs
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Engine

    from tasks.ledger.runs import Run, WantedRun


def ask(
    connection: Connection, parent: Run, wanted: WantedRun, *, now: datetime, republish_after: timedelta
) -> Run | None:
    """Write a child that is not there yet; give it when it is to be published.

    One that was called off with its parent is wanted again, now that the parent runs again.

    Raises:
        CancelledError: the parent was called off; whatever it still asked for would outlive it.
    """
    current = changes.lock(connection, parent.id)
    if current is not None and current.cancel_requested_at is not None:
        raise CancelledError(current.cancel_reason)
    new = changes.insert(connection, [wanted], now=now, republish_after=republish_after)
    if new:
        return new[0]
    child = changes.lock(connection, wanted.id)
    if child is None or child.state is not State.CANCELLED:
        return None
    return runs.restart_in(connection, child, now=now, detail="its parent asks for it again")


def changed_with(engine: Engine, parents: Sequence[Run]) -> list[Run]:
    """List what was called off together with runs that were, and what these had asked for in turn."""
    found: list[Run] = []
    above = [run for run in parents if run.state is State.CANCELLED]
    while above:
        since = min(run.updated_at for run in above)
        below = select(*COLUMNS).where(JobRun.parent_id.in_([run.id for run in above]), JobRun.updated_at >= since)
        with begin_read(engine) as connection:
            above = [read_run(row) for row in connection.execute(below)]
        found += above
    return found


def of(engine: Engine, parent_id: str) -> list[Run]:
    """List the children of a run, in the order of their ids."""
    with begin_read(engine) as connection:
        query = select(*COLUMNS).where(JobRun.parent_id == parent_id).order_by(JobRun.id)
        return [read_run(row) for row in connection.execute(query)]
