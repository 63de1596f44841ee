"""How the entries of the timetable are doing: one look for `status`, `doctor` and `schedule`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.ledger.history import record_of
from tasks.ledger.judging import EntryFacts, judge_entry
from tasks.ledger.store import slots

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tasks.ledger.catching_up import Pause
    from tasks.ledger.history import SlotRecord
    from tasks.ledger.judging import Judgement
    from tasks.runtime import Runtime, ScheduleEntry

_MOST_WAITING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryStanding:
    """An entry, its newest slot, and what is wrong with it."""

    entry: str
    last: SlotRecord | None
    """The newest slot that has a run."""
    pause: Pause | None
    """The one that lasts."""
    judgement: Judgement


def look_at(
    entries: Iterable[ScheduleEntry], runtime: Runtime, *, since: datetime | None = None
) -> list[EntryStanding]:
    """Look at entries; one that was never seen counts as seen `since` somebody was there to run it.

    Raises:
        TransientError: the database was in the way.
    """
    states = slots.states(runtime.engine)
    return [_look_at(entry, states.get(entry.name), runtime, since=since) for entry in entries]


def read_history(entry: str, runtime: Runtime, *, limit: int) -> list[SlotRecord]:
    """Read the newest slots of an entry, the newest first; also of one that has left the timetable.

    Raises:
        TransientError: the database was in the way.
    """
    now = runtime.clock()
    return [record_of(run, now=now) for run in slots.history(runtime.engine, entry, limit=limit)]


def _look_at(
    entry: ScheduleEntry, state: slots.EntryState | None, runtime: Runtime, *, since: datetime | None
) -> EntryStanding:
    now, engine = runtime.clock(), runtime.engine
    newest = slots.newest(engine, entry.name)
    facts = EntryFacts(
        walked_until=since if state is None else state.walked_until,
        pause=None if state is None else state.pause,
        waiting=slots.waiting(engine, entry.name, limit=_MOST_WAITING),
        newest_ended=slots.newest_ended(engine, entry.name),
    )
    return EntryStanding(
        entry=entry.name,
        last=None if newest is None else record_of(newest, now=now),
        pause=facts.pause if facts.pause is not None and facts.pause.covers(now) else None,
        judgement=judge_entry(entry, facts, now=now),
    )
