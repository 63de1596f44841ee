"""What happens to a run, one event for each change of it: the timeline of a run, and what is told outside.

A run of revision n has exactly the events 1 to n: each is written in the transaction of its change. (Runs that are
older than the events themselves lack the first ones.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

from tasks.ledger.runs import as_json
from tasks.ledger.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tasks.ledger.runs import Run

Signal = Literal["start", "success", "fail", "log"]
"""What a dead-man switch understands (https://healthchecks.io/docs/http_api/)."""


class Event(StrEnum):
    """What happened."""

    QUEUED = "queued"
    """It is in the ledger."""
    STARTED = "started"
    """An attempt began; the detail says when it is late."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    MISSED = "missed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    """An attempt failed, and there will be another."""
    DEFERRED = "deferred"
    """What it needs is in use; the attempt does not count."""
    RELEASED = "released"
    """Its worker fell silent, and there will be another attempt."""
    RESTARTED = "restarted"
    """It had ended, and has all its attempts again."""
    CANCEL_REQUESTED = "cancel_requested"
    """Its worker is asked to stop."""


EVENT_OF_STATE: Final[Mapping[State, Event]] = {
    State.RUNNING: Event.STARTED,
    State.SUCCEEDED: Event.SUCCEEDED,
    State.FAILED: Event.FAILED,
    State.DEAD: Event.DEAD,
    State.MISSED: Event.MISSED,
    State.CANCELLED: Event.CANCELLED,
}
"""What happened when a run came to stand there; back to `queued` lead several ways."""

SIGNALS: Final[Mapping[Event, Signal]] = {
    Event.STARTED: "start",
    Event.SUCCEEDED: "success",
    Event.FAILED: "fail",
    Event.DEAD: "fail",
    Event.MISSED: "fail",
    Event.CANCELLED: "log",
    Event.RETRIED: "log",
    Event.RELEASED: "log",
}
"""What a dead-man switch hears. Of the others it hears nothing: they tell it neither good nor bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event as it stands in the table; the columns of `tables.RunEvent` say what each field means."""

    run_id: str
    revision: int
    at: datetime
    event: Event
    state: State
    attempt: int
    worker: str | None
    detail: str | None

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


def lateness(run: Run) -> str | None:
    """Say by how much a run that has just begun is late; None when it is in time, or began before."""
    if not run.is_late or run.late_after is None or run.first_started_at != run.started_at:
        return None
    return f"late: it should have begun before {run.late_after:%Y-%m-%d %H:%M:%S} UTC"


def request_came_too_late(run: Run) -> str | None:
    """Say of a run that has succeeded that it was called off all the same; None when it was not."""
    return None if run.cancel_requested_at is None else f"done before it could stop: {run.cancel_reason}"
