"""The events of the runs in SQL, each written in the transaction of its change, and the pings that tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import bindparam, insert, select

from tasks.ledger.events import SIGNALS, Event, RunEvent
from tasks.ledger.states import State
from tasks.ledger.tables import Ping
from tasks.ledger.tables import RunEvent as RunEventRow
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine, Table

    from tasks.ledger.runs import Run

# Built once: see `changes`.
_EVENTS: Final = cast("Table", RunEventRow.__table__)
_NEW_EVENT: Final = insert(_EVENTS).inline()
_NEW_PING: Final = insert(cast("Table", Ping.__table__)).inline()
_TIMELINE: Final = select(*_EVENTS.columns).where(_EVENTS.c.run_id == bindparam("id")).order_by(_EVENTS.c.revision)


def record(connection: Connection, changed: Sequence[Run], *, event: Event, detail: str | None = None) -> None:
    """Write one event for each run, which is given as it stands after the change, and a ping where one is watched."""
    if not changed:
        return
    rows = [_row(run, event, detail) for run in changed]
    connection.execute(_NEW_EVENT, rows if len(rows) > 1 else rows[0])  # a list of one costs more than the row itself
    signal = SIGNALS.get(event)
    pings = [_ping(run, signal, detail) for run in changed if signal and run.watched and run.entry is not None]
    if pings:
        connection.execute(_NEW_PING, pings)


def timeline(engine: Engine, run_id: str) -> list[RunEvent]:
    """List what happened to a run, in order."""
    with begin_read(engine) as connection:
        rows = connection.execute(_TIMELINE, {"id": run_id}).mappings().all()
    return [RunEvent(**{**row, "event": Event(row["event"]), "state": State(row["state"])}) for row in rows]


def _row(run: Run, event: Event, detail: str | None) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "revision": run.revision,
        "at": run.updated_at,
        "event": event,
        "state": run.state,
        "attempt": run.attempt,
        "worker": run.worker,
        "detail": detail,
    }


def _ping(run: Run, signal: str, detail: str | None) -> dict[str, Any]:
    at = run.updated_at
    return {
        "entry": run.entry,
        "run_id": run.id,
        "signal": signal,
        "detail": detail,
        "created_at": at,
        "try_at": at,
        "tries": 0,
    }
