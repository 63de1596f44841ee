"""The slots of the timetable in SQL: how far each entry was walked, and the runs of its slots.

Whoever walks an entry holds the lock of its row in `schedule_entries`; everything that one batch of a walk writes is
one transaction under that lock. `walked_until` and the rows of the slots up to it therefore never disagree.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.ledger.catching_up import CLOCK_TOLERANCE, Pause
from tasks.ledger.states import OUTCOMES, Move, State
from tasks.ledger.store import changes
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun, ScheduleState
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Engine, Row, Table

    from tasks.ledger.runs import Run, WantedRun

_STATES: Final = cast("Table", ScheduleState.__table__)
_BATCH: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryState:
    """What the ledger remembers of an entry."""

    name: str
    walked_until: datetime
    """Every slot up to here has its run."""
    pause: Pause | None
    """The last one; it may be over."""


class LockedEntry:
    """An entry whose row this transaction has locked: nobody else walks, pauses or resumes it meanwhile."""

    def __init__(self, connection: Connection, state: EntryState) -> None:
        self._connection = connection
        self.state = state

    def taken(self, *, after: datetime, until: datetime, limit: int) -> frozenset[datetime]:
        """Give the first slots of a time that have a run, at most `limit`."""
        there = (JobRun.entry == self.state.name, JobRun.slot_at > after, JobRun.slot_at <= until)
        rows = self._connection.scalars(select(JobRun.slot_at).where(*there).order_by(JobRun.slot_at).limit(limit))
        return frozenset(slot for slot in rows if slot is not None)

    def queue(self, wanted: Sequence[WantedRun], *, now: datetime, republish_after: timedelta) -> list[Run]:
        """Write queued runs; give those that are new."""
        return changes.insert(self._connection, wanted, now=now, republish_after=republish_after)

    def end(self, ended: Sequence[tuple[WantedRun, Move]], *, now: datetime, republish_after: timedelta) -> list[Run]:
        """Write runs of slots that are not to be worked on, each with its outcome; give those that are new."""
        new = {run.id for run in self.queue([wanted for wanted, _ in ended], now=now, republish_after=republish_after)}
        moved: list[Run] = []
        for move, alike in groupby(ended, key=itemgetter(1)):
            ids = [wanted.id for wanted, _ in alike if wanted.id in new]
            moved += changes.end_waiting(self._connection, ids, move, now=now)
        return moved

    def miss_waiting(self, *, before: datetime, reason: str, now: datetime) -> list[Run]:
        """Give up the runs of older slots that wait for their first attempt; give them as they stand now."""
        older = (JobRun.entry == self.state.name, JobRun.slot_at < before)
        return self._miss(
            *older, JobRun.state == State.QUEUED, JobRun.first_started_at.is_(None), reason=reason, now=now
        )

    def earliest_before_its_time(self, *, now: datetime) -> datetime | None:
        """Give the earliest slot that was written by a clock which ran ahead."""
        return self._connection.scalar(select(func.min(JobRun.slot_at)).where(*self._before_their_time(now)))

    def take_back(self, *, reason: str, now: datetime) -> int:
        """Let go of the slots that were written by a clock which ran ahead; give their count.

        What was done stays in the ledger, as runs outside the timetable; what still waits is given up. The slots are
        without a run again, and get one when their time comes.
        """
        early = self._before_their_time(now)
        waiting = (JobRun.state == State.QUEUED, JobRun.first_started_at.is_(None))
        while self._miss(*early, *waiting, reason=reason, now=now, limit=_BATCH):
            pass
        outside = update(JobRun).where(*early).values(slot_at=None, dedup_key=None)
        return self._connection.execute(outside).rowcount

    def advance(self, walked_until: datetime) -> None:
        """Note that every slot up to here has its run."""
        self._write(walked_until=walked_until)

    def set_pause(self, pause: Pause | None) -> None:
        """Note a pause; None forgets the last one."""
        self._write(
            paused_at=pause and pause.since,
            paused_until=pause and pause.until,
            pause_reason=pause and pause.reason,
            paused_by=pause and pause.by,
        )

    def _write(self, **values: Any) -> None:
        self._connection.execute(update(ScheduleState).where(ScheduleState.name == self.state.name).values(**values))
        self.state = _read(self._connection, self.state.name)

    def _before_their_time(self, now: datetime) -> tuple[Any, ...]:
        return (
            JobRun.entry == self.state.name,
            JobRun.slot_at.is_not(None),
            JobRun.enqueued_at > now + CLOCK_TOLERANCE,
        )

    def _miss(self, *which: Any, reason: str, now: datetime, limit: int = _BATCH) -> list[Run]:
        ids = self._connection.scalars(select(JobRun.id).where(*which).order_by(JobRun.slot_at).limit(limit)).all()
        return changes.end_waiting(self._connection, ids, Move(to=State.MISSED, reason=reason), now=now)


@contextmanager
def locked_entry(engine: Engine, name: str, *, begins_at: datetime) -> Iterator[LockedEntry]:
    """Lock an entry for one transaction; one that was never seen before is walked from `begins_at` on."""
    with begin_write(engine) as connection:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        first = dialect.insert(_STATES).values(name=name, walked_until=begins_at)
        connection.execute(first.on_conflict_do_nothing())
        yield LockedEntry(connection, _read(connection, name))


def states(engine: Engine) -> dict[str, EntryState]:
    """Give what is remembered of all entries, also of those that have left the timetable."""
    with begin_read(engine) as connection:
        return {state.name: state for state in map(_state, connection.execute(select(_STATES)))}


def newest(engine: Engine, entry: str, *, state: State | None = None) -> Run | None:
    """Find the run of the newest slot of an entry that has one, or has one in this state."""
    in_state = () if state is None else (JobRun.state == state,)
    found = _of_slots(engine, entry, *in_state, limit=1)
    return found[0] if found else None


def newest_ended(engine: Engine, entry: str) -> Run | None:
    """Find the run of the newest slot of an entry that has an outcome."""
    found = _of_slots(engine, entry, JobRun.state.in_(OUTCOMES), limit=1)
    return found[0] if found else None


def waiting(engine: Engine, entry: str, *, limit: int) -> list[Run]:
    """List the runs of the slots of an entry that have no outcome, the newest slot first."""
    return _of_slots(engine, entry, JobRun.state.not_in(OUTCOMES), limit=limit)


def history(engine: Engine, entry: str, *, limit: int) -> list[Run]:
    """List the runs of the slots of an entry, the newest slot first."""
    return _of_slots(engine, entry, limit=limit)


def _of_slots(engine: Engine, entry: str, *which: Any, limit: int) -> list[Run]:
    query = select(*COLUMNS).where(JobRun.entry == entry, JobRun.slot_at.is_not(None), *which)
    with begin_read(engine) as connection:
        rows = connection.execute(query.order_by(JobRun.slot_at.desc()).limit(limit))
        return [read_run(row) for row in rows]


def _read(connection: Connection, name: str) -> EntryState:
    # SQLite has no row locks and needs none: the transaction holds the lock of the whole database.
    locking = select(_STATES).where(_STATES.c.name == name).with_for_update()
    return _state(connection.execute(locking).one())


def _state(row: Row[Any]) -> EntryState:
    if row.paused_until is None:
        pause = None
    else:
        pause = Pause(since=row.paused_at, until=row.paused_until, reason=row.pause_reason, by=row.paused_by)
    return EntryState(name=row.name, walked_until=row.walked_until, pause=pause)
