"""Two entries whose slot a test chooses, in the timetable of beat and of the workers: one that catches up, one not.

The slot is in the environment, because beat plans ahead when it starts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from celery import signals

from tasks import runtime as runtimes
from tests.chaos.deeds import DoDeed
from workers.beat import TimetableScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery

    from workers.beat import TimetableEntry

SLOT_VARIABLE: Final = "CHAOS_NIGHTLY_SLOT"
"""When the slot of tonight begins, ISO 8601. Without it there are no such entries."""

GRACE: Final = timedelta(seconds=3)
_NIGHT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyDeed:
    """A deed at the same second of each day."""

    name: str
    slot: datetime
    catch_up: Literal["none", "last", "all"]
    message: DoDeed = field(default_factory=DoDeed)
    grace: timedelta = GRACE
    max_duration: timedelta = timedelta(minutes=1)
    expires: timedelta = timedelta(hours=12)

    def slot_at(self, instant: datetime) -> datetime:
        """Give the newest slot at or before the instant."""
        return self.slot + (instant - self.slot) // _NIGHT * _NIGHT

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        """Give the slots after the instant, without end."""
        return (self.slot_at(instant) + number * _NIGHT for number in count(1))

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the slots later than `after` and not later than `until`."""
        return takewhile(lambda slot: slot <= until, self.slots_after(after))


def nightly_entries(slot: datetime) -> tuple[NightlyDeed, NightlyDeed]:
    """Give the entry that catches up, and the one that does not."""
    return (
        NightlyDeed(name="nightly-caught-up", slot=slot, catch_up="last"),
        NightlyDeed(name="nightly-or-never", slot=slot, catch_up="none"),
    )


_CHOSEN: Final = os.environ.get(SLOT_VARIABLE)
_ENTRIES: Final = nightly_entries(datetime.fromisoformat(_CHOSEN).astimezone(UTC)) if _CHOSEN else ()


class NightlyScheduler(TimetableScheduler):
    """Beat with the entries of this module as well."""

    entries: ClassVar[Sequence[TimetableEntry]] = (*TimetableScheduler.entries, *_ENTRIES)


def add_entries(app: Celery) -> None:
    """Give beat and the workers the entries, if a slot was chosen."""
    if not _ENTRIES:
        return
    app.conf.beat_scheduler = f"{__name__}:{NightlyScheduler.__name__}"
    # Receivers are called in the order in which they were connected: the lifecycle has made the runtime by then.
    signals.worker_init.connect(_extend_timetable, weak=False)
    signals.worker_process_init.connect(_extend_timetable, weak=False)  # each child has a runtime of its own


def _extend_timetable(**_: Any) -> None:
    runtime = runtimes.current()
    more = {entry.name: entry for entry in _ENTRIES}
    runtimes.install(replace(runtime, timetable={**runtime.timetable, **more}))
