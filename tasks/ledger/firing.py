"""Firing an entry of the timetable: one run per slot, whoever fires it and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightcrew._uuid7 import uuid7
from tasks.ledger.runs import WantedRun
from tasks.ledger.states import State
from tasks.ledger.store import runs, slots
from tasks.ledger.walking import walk, walk_entry

if TYPE_CHECKING:
    from tasks.ledger.runs import Run
    from tasks.ledger.walking import Walk
    from tasks.runtime import Runtime, ScheduleEntry


def fire_slot(entry: ScheduleEntry, runtime: Runtime) -> Run | None:
    """Make the run of the slot that has just begun, and of those left out before it, as the entry catches up.

    Give the run of the newest slot; None when that has its run already, or is not to be run.
    Doorbells get a run as well, which lets every slot end with an outcome.

    Raises:
        TransientError: the database was in the way and there is no run, or the broker was: then there is one,
            and the reconciler publishes it.
    """
    return _of_newest_slot(walk_entry(entry, runtime, fires=True))


def make_run_now(entry: ScheduleEntry, runtime: Runtime) -> Run:
    """Make the run of somebody who cannot wait: of the slot at hand, or else outside the timetable.

    It is in the ledger, and not published yet: `walking.hand_out` does that. An entry that is paused runs as well.

    Raises:
        TransientError: the database was in the way and there is no run.
    """
    fired = _of_newest_slot(walk(entry, runtime, now=runtime.clock(), fires=True))
    return fired or _make_run_outside(entry, runtime)


def newest_slot_run(entry: ScheduleEntry, runtime: Runtime) -> Run | None:
    """Find the run of the newest slot that has one."""
    return slots.newest(runtime.engine, entry.name)


def newest_success(entry: ScheduleEntry, runtime: Runtime) -> Run | None:
    """Find the run of the newest slot that ended well."""
    return slots.newest(runtime.engine, entry.name, state=State.SUCCEEDED)


def _of_newest_slot(done: Walk) -> Run | None:
    newest = done.entry.slot_at(done.now)
    return next((run for run in done.fired if run.slot_at == newest), None)


def _make_run_outside(entry: ScheduleEntry, runtime: Runtime) -> Run:
    now, run_id = runtime.clock(), str(uuid7())
    wanted = WantedRun(
        id=run_id,
        kind=entry.message.kind,
        queue=entry.message.queue,
        dedup_key=None,
        payload=entry.message.to_payload(),
        correlation_id=run_id,
        enqueued_at=now,
    )
    [made] = runs.insert(runtime.engine, [wanted], now=now, republish_after=runtime.ledger.republish_after)
    return made
