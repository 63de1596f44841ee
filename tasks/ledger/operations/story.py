"""All that is known of one run, across its attempts, workers and children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.ledger.filters import LetterFilter
from tasks.ledger.states import State
from tasks.ledger.store import events, letters, queries, selecting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from tasks.ledger.dead_letters import KeptLetter
    from tasks.ledger.events import RunEvent
    from tasks.ledger.resources import Resource
    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime

_MOST_DESCENDANTS = 1_000
_MOST_LETTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A run that another one asked for, and what it asked for itself."""

    run: Run
    branches: tuple[Branch, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give what tells how it is doing, and its own children."""
        names = ("id", "kind", "state", "attempt", "progress", "error")
        shown = {name: value for name, value in self.run.to_json().items() if name in names}
        return {**shown, "children": [branch.to_json() for branch in self.branches]}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlace:
    """Where the message of a queued run stands."""

    queue: str
    published_at: datetime
    waits: timedelta
    """Since when it was published."""
    ahead: int
    """Queued runs of the queue that were published before."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return {
            "queue": self.queue,
            "published_at": self.published_at.isoformat(),
            "age_s": self.waits.total_seconds(),
            "ahead": self.ahead,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """One run and everything that belongs to it."""

    run: Run
    parent: Run | None
    """None also when it was forgotten."""
    events: Sequence[RunEvent]
    children: Sequence[Branch]
    leases: Sequence[Resource]
    dead_letters: Sequence[KeptLetter]
    """Messages of this run that nobody could read."""
    place: QueuePlace | None
    """None when no message is out."""
    next_try_at: datetime | None
    """When a queued run gets its next message; None when one is out, or when it does not wait."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        parent = self.parent
        return {
            "job": self.run.to_json(),
            "events": [event.to_json() for event in self.events],
            "parent": parent and {"id": parent.id, "kind": parent.kind, "state": str(parent.state)},
            "children": [branch.to_json() for branch in self.children],
            "leases": [lease.to_json() for lease in self.leases],
            "dead_letters": [letter.to_json() for letter in self.dead_letters],
            "queue": self.place and self.place.to_json(),
            "next_try_at": self.next_try_at and self.next_try_at.isoformat(),
        }


def tell_story(runtime: Runtime, run: Run) -> RunStory:
    """Read everything that belongs to a run; of a family of thousands the first thousand.

    Raises:
        TransientError: the database was in the way.
    """
    engine, now = runtime.engine, runtime.clock()
    of_run = LetterFilter(job_id=run.id)
    return RunStory(
        run=run,
        parent=None if run.parent_id is None else queries.by_id(engine, run.parent_id),
        events=events.timeline(engine, run.id),
        children=grow(selecting.descendants(engine, run.id, limit=_MOST_DESCENDANTS), root=run.id),
        leases=selecting.leases_of(engine, run.id),
        dead_letters=letters.newest(engine, of_run, include_retried=True, limit=_MOST_LETTERS),
        place=_place(runtime, run, now),
        next_try_at=next_try_at(run, now=now),
    )


def grow(family: Sequence[Run], *, root: str) -> tuple[Branch, ...]:
    """Make a tree of a family; each run hangs on its parent, in the order given."""
    below: dict[str | None, list[Run]] = {}
    for run in family:
        below.setdefault(run.parent_id, []).append(run)

    def branches(parent_id: str, above: frozenset[str]) -> tuple[Branch, ...]:
        # A circle can only stand in rows that were mended by hand; it is shown once.
        found = [run for run in below.get(parent_id, []) if run.id not in above]
        return tuple(Branch(run=run, branches=branches(run.id, above | {run.id})) for run in found)

    return branches(root, frozenset({root}))


def next_try_at(run: Run, *, now: datetime) -> datetime | None:
    """Say when a queued run gets its next message; None when one is out already, or when it does not wait."""
    if run.state is not State.QUEUED:
        return None
    if run.published_at is None:
        return run.republish_at
    return run.published_at if run.published_at > now else None


def _place(runtime: Runtime, run: Run, now: datetime) -> QueuePlace | None:
    if run.state is not State.QUEUED or run.published_at is None or run.published_at > now:
        return None
    ahead = selecting.ahead_of(runtime.engine, run)
    return QueuePlace(queue=run.queue, published_at=run.published_at, waits=now - run.published_at, ahead=ahead)
