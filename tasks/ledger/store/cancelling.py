"""Calling runs off in SQL, and with each run the ones that it asked for while it worked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, exists, select
from sqlalchemy.orm import aliased

from tasks.ledger.events import Event
from tasks.ledger.runs import clean
from tasks.ledger.states import CancelDecision, Move, State, decide_cancel
from tasks.ledger.store import changes
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from tasks.ledger.runs import Run


# Built once: see `changes`.
_LIVE_CHILDREN: Final = (
    select(*COLUMNS)
    .where(JobRun.parent_id == bindparam("parent"), JobRun.state.in_([State.QUEUED, State.RUNNING]))
    .order_by(JobRun.id)
    .with_for_update()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What came of calling a run off."""

    decision: CancelDecision
    changed: list[Run] = field(default_factory=list)
    """The run and its children, as they stand now; those that were left alone are not among them."""


def cancel(engine: Engine, run_id: str, *, reason: str, by: str, now: datetime) -> Cancellation:
    """Call a run off, and what it asked for: what waits ends, whoever works is asked to stop.

    The request stands in the database: it outlives workers and restarts.

    Raises:
        LookupError: there is no such run.
    """
    with begin_write(engine) as connection:
        run = changes.lock(connection, run_id)
        if run is None:
            msg = f"no run {run_id}"
            raise LookupError(msg)
        decision = decide_cancel(run, now=now)
        return Cancellation(
            decision=decision, changed=_apply(connection, run, decision, reason=_told(reason, by), now=now)
        )


def cancel_queued(engine: Engine, run_ids: Sequence[str], *, reason: str, by: str, now: datetime) -> list[Run]:
    """Call off those of the runs that wait and belong to no family, in one transaction; give these.

    What another transaction is at is left out, and so nobody waits for anybody here: `cancel` does the rest, run by
    run. One by one, ten thousand runs took most of a minute.
    """
    child = aliased(JobRun)
    alone = (JobRun.parent_id.is_(None), ~exists().where(child.parent_id == JobRun.id))
    queued = select(JobRun.id).where(JobRun.id.in_(run_ids), JobRun.state == State.QUEUED, *alone)
    with begin_write(engine) as connection:
        ids = connection.scalars(queued.order_by(JobRun.id).with_for_update(skip_locked=True, of=JobRun)).all()
        move = Move(to=State.CANCELLED, reason=_told(reason, by))
        return changes.end_queued(connection, ids, move, now=now)


def cancel_children(connection: Connection, parent_id: str, *, reason: str, now: datetime) -> list[Run]:
    """Call off what a run asked for; give what was changed, as it stands now."""
    rows = connection.execute(_LIVE_CHILDREN, {"parent": parent_id}).all()
    changed = []
    for child in map(read_run, rows):
        decision = decide_cancel(child, now=now)
        changed += _apply(connection, child, decision, reason=f"with its parent: {reason}", now=now)
    return changed


def _told(reason: str, by: str) -> str:
    return clean(f"{reason} (by {by})")


def _apply(connection: Connection, run: Run, decision: CancelDecision, *, reason: str, now: datetime) -> list[Run]:
    if decision.action == "cancel":
        changed = changes.end(connection, run, Move(to=State.CANCELLED, reason=reason), now=now)
    elif decision.action == "request":
        changed = changes.move(
            connection,
            run,
            State.RUNNING,
            now=now,
            event=Event.CANCEL_REQUESTED,
            detail=reason,
            cancel_requested_at=now,
            cancel_reason=reason,
        )
    else:
        return []
    family = cancel_children(connection, run.id, reason=reason, now=now)
    return family if changed is None else [changed, *family]
