"""What becomes of the slots of an entry that have begun and have no run: values in, decisions with reasons out.

A walk looks at every slot between where the last walk ended and now. Most of the time that is the one slot that has
just begun; after an outage it is all that were left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from tasks.runtime import ScheduleEntry

CLOCK_TOLERANCE: Final = timedelta(minutes=1)
"""Clocks of machines that keep time are closer than this. What was written further in the future was written by a
clock that ran ahead."""

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A time in which an entry is not run, because somebody said so."""

    since: datetime
    until: datetime
    reason: str
    by: str

    def covers(self, instant: datetime) -> bool:
        """Say whether the instant lies in it, both ends included."""
        return self.since <= instant <= self.until

    def __str__(self) -> str:
        return f"paused by {self.by} until {_shown(self.until)}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlan:
    """What a walk does about a slot."""

    slot: datetime
    action: Literal["fire", "miss", "call_off", "leave"]
    reason: str
    is_late: bool = False
    """Whether its grace is over already."""


def plan_slots(
    entry: ScheduleEntry, *, after: datetime, now: datetime, taken: Container[datetime], pause: Pause | None
) -> Iterator[SlotPlan]:
    """Decide about each slot later than `after` and not later than `now`, in order; `taken` are those with a run.

    At most one slot fires of an entry that does not catch up on all: the newest. Slots of a pause are called off, and
    so is what would be caught up while it lasts. Nothing is kept in memory, however long the time.
    """
    newest = _newest_to_fire(entry, now, pause)
    for slot in entry.slots_between(after, now):
        is_late = now > slot + entry.grace
        if slot in taken:
            yield SlotPlan(slot=slot, action="leave", reason="it has its run", is_late=is_late)
        else:
            yield _plan(entry, slot, newest=newest, now=now, pause=pause, is_late=is_late)


def first_sight(entry: ScheduleEntry, *, now: datetime, fires: bool) -> datetime:
    """Give the instant from which an entry that was never seen before is walked: its past is nobody's fault.

    With `fires` somebody has just been told that a slot of it begins, and that one counts.
    """
    slot = entry.slot_at(now)
    return slot - _MOMENT if fires and now <= slot + entry.grace else now


def runs_ahead(instant: datetime, *, now: datetime) -> bool:
    """Say whether what was written then was written by a clock that ran ahead."""
    return instant > now + CLOCK_TOLERANCE


def pulled_back(walked_until: datetime, *, now: datetime, earliest_before_its_time: datetime | None) -> datetime:
    """Give the instant from which an entry is walked, when a clock that ran ahead may have walked it before.

    `earliest_before_its_time` is its earliest slot that was walked by such a clock. Without such slots there was
    nothing to walk in the time that never was.
    """
    if not runs_ahead(walked_until, now=now):
        return walked_until
    return min(now, (earliest_before_its_time or now) - _MOMENT)


def _newest_to_fire(entry: ScheduleEntry, now: datetime, pause: Pause | None) -> datetime:
    newest = entry.slot_at(now)
    return entry.slot_at(pause.since - _MOMENT) if pause is not None and pause.covers(newest) else newest


def _plan(
    entry: ScheduleEntry, slot: datetime, *, newest: datetime, now: datetime, pause: Pause | None, is_late: bool
) -> SlotPlan:
    if pause is not None and pause.covers(slot):
        return SlotPlan(slot=slot, action="call_off", reason=str(pause), is_late=is_late)
    if entry.catch_up == "none" and is_late:
        return SlotPlan(
            slot=slot, action="miss", reason=f"nobody fired it within its grace of {entry.grace}", is_late=True
        )
    if entry.catch_up != "all" and slot < newest:
        return SlotPlan(slot=slot, action="miss", reason=superseded_by(newest), is_late=is_late)
    if pause is not None and pause.covers(now):
        return SlotPlan(slot=slot, action="call_off", reason=str(pause), is_late=is_late)
    reason = "caught up: nobody fired it within its grace" if is_late else "it has begun"
    return SlotPlan(slot=slot, action="fire", reason=reason, is_late=is_late)


def superseded_by(slot: datetime) -> str:
    """Say why an older slot is not run any more."""
    return f"superseded by the slot of {_shown(slot)}"


def _shown(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
