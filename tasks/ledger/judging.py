"""Whether an entry of the timetable is well: values in, a verdict with reasons out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from tasks.ledger.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.ledger.catching_up import Pause
    from tasks.ledger.runs import Run
    from tasks.runtime import ScheduleEntry

EntryVerdict = Literal["ok", "overdue", "overrunning", "broken"]

_BROKEN: Final = frozenset({State.FAILED, State.DEAD, State.MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFacts:
    """What is known of an entry."""

    walked_until: datetime | None
    """Up to where its slots have their runs: None when nobody has seen it yet."""
    pause: Pause | None
    """The last one; it may be over."""
    waiting: Sequence[Run] = ()
    """Runs of slots that have not ended."""
    newest_ended: Run | None = None
    """The run of the newest slot that has an outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How an entry is doing."""

    verdict: EntryVerdict
    """The gravest thing that is wrong."""
    reasons: tuple[str, ...] = ()
    """Everything that is wrong, the gravest first."""


def judge_entry(entry: ScheduleEntry, facts: EntryFacts, *, now: datetime) -> Judgement:
    """Judge an entry.

    overdue: a slot has not begun although its grace is over. overrunning: a run takes longer than it should.
    broken: its newest outcome is a bad one.
    """
    found: list[tuple[EntryVerdict, str]] = [
        *(("overdue", reason) for reason in _overdue(entry, facts, now)),
        *(("overrunning", reason) for reason in _overrunning(entry, facts, now)),
        *(("broken", reason) for reason in _broken(facts)),
    ]
    if not found:
        return Judgement(verdict="ok")
    return Judgement(verdict=found[0][0], reasons=tuple(reason for _, reason in found))


def _overdue(entry: ScheduleEntry, facts: EntryFacts, now: datetime) -> Iterator[str]:
    slot = entry.slot_at(now - entry.grace)
    is_paused = facts.pause is not None and facts.pause.covers(slot)
    if facts.walked_until is not None and slot > facts.walked_until and not is_paused:
        yield f"nobody has fired the slot of {_shown(slot)}"
    for run in facts.waiting:
        is_unstarted = run.state is State.QUEUED and run.first_started_at is None
        if is_unstarted and run.slot_at and run.late_after and now > run.late_after:
            yield f"the slot of {_shown(run.slot_at)} still waits to begin"


def _overrunning(entry: ScheduleEntry, facts: EntryFacts, now: datetime) -> Iterator[str]:
    for run in facts.waiting:
        if run.state is State.RUNNING and run.started_at and run.slot_at:
            taken = now - run.started_at
            if taken > entry.max_duration:
                yield f"the slot of {_shown(run.slot_at)} runs for {_whole(taken)}, {entry.max_duration} is the most"


def _broken(facts: EntryFacts) -> Iterator[str]:
    run = facts.newest_ended
    if run is not None and run.slot_at and run.state in _BROKEN:
        yield f"the slot of {_shown(run.slot_at)} is {run.state}: {run.error or 'no reason is known'}"


def _shown(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="minutes").replace("+00:00", "Z")


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))
