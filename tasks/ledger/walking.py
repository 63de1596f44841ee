"""Walking the timetable: every slot that has begun gets its run, whoever was asleep when it did.

Beat's message walks one entry, the reconciler all of them. Any number may walk at once, and each may die half-way:
a batch of slots is one transaction, and what is committed but not published is published by the reconciler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from nightcrew.messages import message_type
from tasks.ledger.catching_up import first_sight, plan_slots, pulled_back, runs_ahead, superseded_by
from tasks.ledger.slots import wanted_slot
from tasks.ledger.states import Move, State
from tasks.ledger.store import mirror, slots
from tasks.runtime import Posting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tasks.ledger.catching_up import SlotPlan
    from tasks.ledger.runs import Run
    from tasks.ledger.store.slots import EntryState, LockedEntry
    from tasks.runtime import Runtime, ScheduleEntry

_BATCH: Final = 500
"""Slots of one transaction: short enough that others who wait for the database hardly notice."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Walk:
    """What a walk of one entry has done so far."""

    entry: ScheduleEntry
    now: datetime
    fired: list[Run] = field(default_factory=list)
    late: int = 0
    """How many of the fired ones begin after their grace."""
    missed: int = 0
    first_missed: datetime | None = None
    last_missed: datetime | None = None
    reason: str | None = None
    """Why the last of the missed slots was missed."""
    called_off: int = 0

    def add(self, batch: Batch) -> None:
        """Count what a batch has done, once it is committed."""
        self.fired += batch.fired
        self.late += sum(run.late_after is not None and self.now > run.late_after for run in batch.fired)
        missed = {run.slot_at: run for run in batch.ended if run.state is State.MISSED and run.slot_at}
        self.called_off += len(batch.ended) - len(missed)
        if missed:
            self.missed += len(missed)
            self.first_missed = min([*filter(None, [self.first_missed]), *missed])
            self.last_missed = max([*filter(None, [self.last_missed]), *missed])
            self.reason = missed[max(missed)].error


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction of a walk has done."""

    fired: Sequence[Run]
    ended: Sequence[Run]
    """Missed or called off."""
    is_last: bool


def walk_timetable(runtime: Runtime) -> list[Walk]:
    """Walk every entry that has slots without a run; give what was done.

    Raises:
        TransientError: the database was in the way, or the broker; the runs that are written stay written.
    """
    now = runtime.clock()
    states = slots.states(runtime.engine)
    due = [entry for entry in runtime.timetable.values() if _is_due(entry, states.get(entry.name), now)]
    walks = [walk(entry, runtime, now=now, fires=False) for entry in due]
    hand_out(runtime, [run for one in walks for run in one.fired])
    return walks


def walk_entry(entry: ScheduleEntry, runtime: Runtime, *, fires: bool = False) -> Walk:
    """Walk one entry; with `fires` a slot of it has just begun, which counts at the first sight of an entry as well.

    Raises:
        TransientError: see `walk_timetable`.
    """
    done = walk(entry, runtime, now=runtime.clock(), fires=fires)
    hand_out(runtime, done.fired)
    return done


def walk(entry: ScheduleEntry, runtime: Runtime, *, now: datetime, fires: bool) -> Walk:
    """Walk one entry and publish nothing.

    Raises:
        TransientError: the database was in the way; batches that are committed stay.
    """
    done = Walk(entry=entry, now=now)
    begins_at = first_sight(entry, now=now, fires=fires)
    is_over = False
    try:
        while not is_over:
            with slots.locked_entry(runtime.engine, entry.name, begins_at=begins_at) as locked:
                batch = _walk_batch(entry, locked, runtime, now=now)
            done.add(batch)
            is_over = batch.is_last
    finally:
        if done.missed:
            _tell_missed(done)
    return done


def hand_out(runtime: Runtime, queued: Sequence[Run]) -> None:
    """Show and publish runs that were just made; what is not published here the reconciler publishes.

    Raises:
        TransientError: the broker was in the way.
    """
    if not queued:
        return
    mirror.write(runtime.redis, queued, ttl=runtime.ledger.mirror_ttl)
    runtime.publisher.publish_many([posting_of(run) for run in queued])
    for run in queued:
        late = run.late_after is not None and run.queued_at > run.late_after
        _log.info("ledger.slot_fired", slot=run.dedup_key, job_id=run.id, late=late)


def posting_of(run: Run) -> Posting:
    """Make the message of a run.

    Raises:
        InvalidMessageError: this release does not read it.
    """
    message = message_type(run.kind).from_payload(run.payload)
    return Posting(message=message, job_id=run.id, correlation_id=run.correlation_id, enqueued_at=run.enqueued_at)


def _is_due(entry: ScheduleEntry, state: EntryState | None, now: datetime) -> bool:
    if state is None or runs_ahead(state.walked_until, now=now):
        return True
    return next(entry.slots_after(state.walked_until)) <= now


def _walk_batch(entry: ScheduleEntry, locked: LockedEntry, runtime: Runtime, *, now: datetime) -> Batch:
    """Give the next slots their runs."""
    _mistrust_the_clock(locked, now=now)
    after = locked.state.walked_until
    taken = locked.taken(after=after, until=now, limit=_BATCH)
    coming = plan_slots(entry, after=after, now=now, taken=taken, pause=locked.state.pause)
    plans = list(islice(coming, _BATCH))
    is_last = len(plans) < _BATCH
    batch = _write(entry, locked, plans, runtime, now=now, is_last=is_last)
    locked.advance(max(after, now) if is_last else plans[-1].slot)
    return batch


def _mistrust_the_clock(locked: LockedEntry, *, now: datetime) -> None:
    """Undo what a clock that ran ahead has done to an entry: its slots are still to come."""
    walked_until = locked.state.walked_until
    if not runs_ahead(walked_until, now=now):
        return
    earliest = locked.earliest_before_its_time(now=now)
    count = locked.take_back(reason="written before its time by a clock that ran ahead", now=now)
    locked.advance(pulled_back(walked_until, now=now, earliest_before_its_time=earliest))
    pause = locked.state.pause
    if pause is not None and runs_ahead(pause.since, now=now):
        locked.set_pause(None)
    _log.error(
        "ledger.clock_ran_ahead", entry=locked.state.name, walked_until=walked_until.isoformat(), taken_back=count
    )


def _write(
    entry: ScheduleEntry,
    locked: LockedEntry,
    plans: Sequence[SlotPlan],
    runtime: Runtime,
    *,
    now: datetime,
    is_last: bool,
) -> Batch:
    after, is_watched = runtime.ledger.republish_after, entry.name in runtime.ledger.watched_entries
    wanted = {plan.slot: wanted_slot(entry, plan.slot, now=now, is_watched=is_watched) for plan in plans}
    due = [wanted[plan.slot] for plan in plans if plan.action == "fire"]
    lost = [(wanted[plan.slot], _move(plan)) for plan in plans if plan.action in {"miss", "call_off"}]
    fired = locked.queue(due, now=now, republish_after=after)
    ended = locked.end(lost, now=now, republish_after=after)
    if entry.catch_up != "all" and fired and (newest := fired[-1].slot_at):
        ended += locked.miss_waiting(before=newest, reason=superseded_by(newest), now=now)
    return Batch(fired=fired, ended=ended, is_last=is_last)


def _move(plan: SlotPlan) -> Move:
    return Move(to=State.MISSED if plan.action == "miss" else State.CANCELLED, reason=plan.reason)


def _tell_missed(walk: Walk) -> None:
    _log.error(
        "ledger.slots_missed",
        entry=walk.entry.name,
        count=walk.missed,
        first=walk.first_missed and walk.first_missed.isoformat(),
        last=walk.last_missed and walk.last_missed.isoformat(),
        reason=walk.reason,
    )
