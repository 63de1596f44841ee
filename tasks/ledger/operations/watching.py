"""Looking at runs again and again while they go on. Reads the database alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.ledger.operations.story import next_try_at
from tasks.ledger.states import State
from tasks.ledger.store import selecting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A run as it was seen at one moment."""

    at: datetime
    run: Run
    ahead: int | None
    """Queued runs whose message is out for longer; None when it does not wait, or has no message out."""
    next_try_at: datetime | None
    """When it gets its next message; None when one is out, or when it does not wait."""

    def to_json(self) -> dict[str, Any]:
        """Give what changes while a run goes on, instants in ISO 8601."""
        names = ("id", "kind", "state", "attempt", "worker", "progress", "progress_text", "error", "result")
        shown = {name: value for name, value in self.run.to_json().items() if name in names}
        return {
            "at": self.at.isoformat(),
            **shown,
            "ahead": self.ahead,
            "next_try_at": self.next_try_at and self.next_try_at.isoformat(),
        }


def look_at_runs(runtime: Runtime, run_ids: Sequence[str]) -> list[Sight]:
    """Look at runs, in this order; those that are gone are left out.

    Raises:
        TransientError: the database was in the way.
    """
    return [_see(runtime, run) for run in selecting.by_ids(runtime.engine, run_ids)]


def look_at_live(runtime: Runtime, *, limit: int) -> list[Sight]:
    """Look at the runs that have not ended: those at work first, then those that wait, in their order.

    Raises:
        TransientError: the database was in the way.
    """
    return [_see(runtime, run) for run in selecting.live(runtime.engine, limit=limit)]


def _see(runtime: Runtime, run: Run) -> Sight:
    now = runtime.clock()
    due_at = next_try_at(run, now=now)
    waits = run.state is State.QUEUED and run.published_at is not None and due_at is None
    ahead = selecting.ahead_of(runtime.engine, run) if waits else None
    return Sight(at=now, run=run, ahead=ahead, next_try_at=due_at)
