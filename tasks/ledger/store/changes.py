"""The only ways to change a run, all in a transaction of the caller: insert, and move from state to state.

Each change is one compare-and-set on state and fence, and writes one event. Whatever a run held of resources is free
once it does not run any more.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.ledger.events import EVENT_OF_STATE, Event, lateness, request_came_too_late
from tasks.ledger.runs import clean
from tasks.ledger.states import RETRYABLE, TRANSITIONS, State
from tasks.ledger.store import events, leases
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Table

    from tasks.ledger.runs import Run, WantedRun
    from tasks.ledger.states import Move

_TABLE: Final = cast("Table", JobRun.__table__)
_LOCK: Final = select(*COLUMNS).where(_TABLE.c.id == bindparam("run_id")).with_for_update()


def insert(
    connection: Connection, wanted: Sequence[WantedRun], *, now: datetime, republish_after: timedelta
) -> list[Run]:
    """Write the runs that are not there yet, as queued; give the new ones."""
    if not wanted:
        return []
    rows = [_row(run, now=now, republish_after=republish_after) for run in wanted]
    new = [read_run(row) for row in connection.execute(_insertion(connection.dialect.name), rows)]
    events.record(connection, new, event=Event.QUEUED)
    return new


def lock(connection: Connection, run_id: str) -> Run | None:
    """Read a run that is to be changed, and let nobody else change it before the end of the transaction.

    SQLite has no row locks and needs none: a transaction that writes holds the lock of the whole database.
    """
    row = connection.execute(_LOCK, {"run_id": run_id}).one_or_none()
    return None if row is None else read_run(row)


def move(  # noqa: PLR0913  the one way for all changes, whose columns differ
    connection: Connection,
    run: Run,
    to: State,
    *,
    now: datetime,
    event: Event | None = None,
    detail: str | None = None,
    only_expired: bool = False,
    counting: tuple[str, ...] = (),
    once: tuple[str, ...] = (),
    **values: Any,
) -> Run | None:
    """Change a run if it still stands as it was seen; None when it does not.

    With `only_expired` its lease must be over as well. The columns of `counting` grow by one, those of `once` become
    now unless they are set. `event` may be left out where the state says it all, `detail` where `error` does.
    """
    if to not in TRANSITIONS[run.state]:
        msg = f"no way leads from {run.state} to {to}"
        raise ValueError(msg)
    change = _change(tuple(values), counting, once, only_expired=only_expired)
    seen = {"seen_id": run.id, "seen_state": run.state, "seen_fence": run.fence}
    new = {f"new_{name}": value for name, value in values.items()}
    row = connection.execute(change, {"new_state": to, "now": now, **seen, **new}).one_or_none()
    if row is None:
        return None
    moved = read_run(row)
    event = event or EVENT_OF_STATE[to]
    events.record(connection, [moved], event=event, detail=_detail(moved, event, detail or values.get("error")))
    if run.state is State.RUNNING and to is not State.RUNNING:
        leases.free(connection, run.id)
    return moved


def end(connection: Connection, run: Run, move_to: Move, *, now: datetime, only_expired: bool = False) -> Run | None:
    """End a run without a result, and tell why; None when it stands elsewhere by now."""
    return move(connection, run, move_to.to, now=now, only_expired=only_expired, **ending(move_to, now=now))


def end_waiting(connection: Connection, run_ids: Sequence[str], move_to: Move, *, now: datetime) -> list[Run]:
    """End many runs for one reason, as `end` does one; give those that still waited for their first attempt.

    One by one, the slots that a month of downtime left out would take a minute.
    """
    still_waiting = (_TABLE.c.state == State.QUEUED, _TABLE.c.first_started_at.is_(None))
    moved = _move_many(connection, run_ids, move_to.to, *still_waiting, now=now, **ending(move_to, now=now))
    events.record(connection, moved, event=EVENT_OF_STATE[move_to.to], detail=clean(move_to.reason))
    return moved


def end_queued(connection: Connection, run_ids: Sequence[str], move_to: Move, *, now: datetime) -> list[Run]:
    """End many runs for one reason, as `end` does one; give those that were queued."""
    moved = _move_many(
        connection, run_ids, move_to.to, _TABLE.c.state == State.QUEUED, now=now, **ending(move_to, now=now)
    )
    events.record(connection, moved, event=EVENT_OF_STATE[move_to.to], detail=clean(move_to.reason))
    return moved


def restart_many(connection: Connection, run_ids: Sequence[str], *, now: datetime, detail: str) -> list[Run]:
    """Restart many runs, as `move` does one with `restarting`; give those that had ended without success."""
    ended = _TABLE.c.state.in_(sorted(RETRYABLE))
    moved = _move_many(connection, run_ids, State.QUEUED, ended, now=now, **restarting(now=now))
    events.record(connection, moved, event=Event.RESTARTED, detail=clean(detail))
    return moved


def restarting(*, now: datetime) -> dict[str, Any]:
    """Give the columns of a run that gets all its attempts again.

    Whoever restarts a run wants it late rather than never, and takes back what was asked of it before.
    """
    return {
        "attempt": 0,
        "queued_at": now,
        "published_at": None,
        "republish_at": now,
        "finished_at": None,
        "progress": None,
        "progress_text": None,
        "start_before": None,
        "cancel_requested_at": None,
        "cancel_reason": None,
    }


def ending(move_to: Move, *, now: datetime) -> dict[str, Any]:
    """Give the columns of a run that ends without a result."""
    return {"error": clean(move_to.reason), "finished_at": now, "lease_until": None}


def waiting(
    *, reason: str | None, now: datetime, published_at: datetime | None, republish_at: datetime
) -> dict[str, Any]:
    """Give the columns of a run that goes back to its queue."""
    return {
        "error": None if reason is None else clean(reason),
        "queued_at": now,
        "published_at": published_at,
        "republish_at": republish_at,
        "lease_until": None,
    }


def _move_many(
    connection: Connection, run_ids: Sequence[str], to: State, *only: Any, now: datetime, **values: Any
) -> list[Run]:
    if not run_ids:
        return []
    change = (
        update(_TABLE)
        .where(_TABLE.c.id.in_(run_ids), *only)
        .values(state=to, revision=_TABLE.c.revision + 1, updated_at=now, **values)
        .returning(*COLUMNS)
    )
    return [read_run(row) for row in connection.execute(change)]


def _detail(moved: Run, event: Event, told: str | None) -> str | None:
    if event is Event.STARTED:
        return lateness(moved) or told
    if event is Event.SUCCEEDED:
        return request_came_too_late(moved)
    return told


@cache
def _insertion(dialect_name: str) -> Any:
    """Build the statement once: building these statements anew took 6 of the 9 ms of a small job."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    return dialect.insert(_TABLE).on_conflict_do_nothing().returning(*COLUMNS)


def _row(run: WantedRun, *, now: datetime, republish_after: timedelta) -> dict[str, Any]:
    # An app whose clock is ahead must not keep its run from being looked after.
    published_at = min(run.enqueued_at, now)
    return {
        "id": run.id,
        "kind": run.kind,
        "queue": run.queue,
        "dedup_key": run.dedup_key,
        "payload": run.payload,
        "state": State.QUEUED,
        "revision": 1,
        "attempt": 0,
        "fence": 0,
        "correlation_id": run.correlation_id,
        "enqueued_at": run.enqueued_at,
        "queued_at": now,
        "published_at": published_at,
        "republish_at": published_at + republish_after,
        "updated_at": now,
        "parent_id": run.parent_id,
        "entry": run.entry,
        "slot_at": run.slot_at,
        "late_after": run.late_after,
        "start_before": run.start_before,
        "watched": run.watched,
    }


@cache
def _change(names: tuple[str, ...], counting: tuple[str, ...], once: tuple[str, ...], *, only_expired: bool) -> Any:
    """Build the statement of a kind of change once; there are about as many kinds as callers."""
    columns = _TABLE.c
    now = bindparam("now", type_=columns.updated_at.type)
    as_seen = [columns[name] == bindparam(f"seen_{name}") for name in ("id", "state", "fence")]
    if only_expired:
        as_seen.append(columns.lease_until <= now)
    values: dict[str, Any] = {name: columns[name] + 1 for name in ("revision", *counting)}
    values |= {name: func.coalesce(columns[name], now) for name in once}
    values |= {name: bindparam(f"new_{name}", type_=columns[name].type) for name in ("state", *names)}
    return update(_TABLE).where(*as_seen).values(updated_at=now, **values).returning(*COLUMNS)
