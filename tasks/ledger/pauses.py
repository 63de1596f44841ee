"""Pausing an entry of the timetable, and letting it go on.

A pause has a reason, a name and an end: nobody finds out in spring that the backups were stopped in autumn. Its slots
are called off one by one, as their time comes, and stand in the ledger with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from tasks.ledger.catching_up import Pause
from tasks.ledger.runs import MAX_NAME_CHARACTERS, clean
from tasks.ledger.store import slots

if TYPE_CHECKING:
    from tasks.runtime import Runtime, ScheduleEntry

LONGEST: Final = timedelta(days=366)
"""Who wants to stop an entry for longer takes it out of the timetable."""

_MOMENT: Final = timedelta(microseconds=1)

_log = structlog.get_logger(__name__)


def pause(entry: ScheduleEntry, runtime: Runtime, *, until: datetime, reason: str, by: str) -> Pause:
    """Call off the slots of an entry from now on until an instant; an earlier pause is replaced.

    What runs already goes on. Slots from before that nobody has fired yet are called off as well.

    Raises:
        ValueError: the end is not ahead, or further than `LONGEST`, or there is no reason.
        TransientError: the database was in the way.
    """
    now = runtime.clock()
    _check(until, reason, now)
    with slots.locked_entry(runtime.engine, entry.name, begins_at=now) as locked:
        made = Pause(
            since=_since(locked.state, now),
            until=until.astimezone(UTC),
            reason=clean(reason.strip(), limit=MAX_NAME_CHARACTERS),
            by=clean(by, limit=MAX_NAME_CHARACTERS),
        )
        locked.set_pause(made)
    _log.warning("ledger.entry_paused", entry=entry.name, until=until.isoformat(), reason=made.reason, by=made.by)
    return made


def resume(entry: ScheduleEntry, runtime: Runtime, *, by: str) -> Pause | None:
    """End the pause of an entry now; give it as it was, None when there is none. Its slots until now stay called off.

    Raises:
        TransientError: the database was in the way.
    """
    now = runtime.clock()
    with slots.locked_entry(runtime.engine, entry.name, begins_at=now) as locked:
        ended = locked.state.pause
        if ended is None or not ended.covers(now):
            return None
        locked.set_pause(replace(ended, until=now - _MOMENT))
    _log.warning("ledger.entry_resumed", entry=entry.name, by=by)
    return ended


def _check(until: datetime, reason: str, now: datetime) -> None:
    if not reason.strip():
        msg = "a pause needs a reason"
        raise ValueError(msg)
    if until <= now:
        msg = f"a pause ends in the future, and {until:%Y-%m-%d %H:%M}Z is over"
        raise ValueError(msg)
    if until > now + LONGEST:
        msg = f"a pause lasts {LONGEST.days} days at most"
        raise ValueError(msg)


def _since(state: slots.EntryState, now: datetime) -> datetime:
    """Give the beginning of a new pause: that of the old one, while slots of that are still to be called off."""
    old = state.pause
    return old.since if old is not None and old.since <= now and state.walked_until < old.until else now
