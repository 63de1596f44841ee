"""Entries whose slots a test chooses, in the timetable of beat and of the workers: one for each way to catch up.

The slot is in the environment, because beat plans ahead when it starts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, dropwhile, takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from celery import signals
from pydantic import SecretStr

from tasks import runtime as runtimes
from tests.chaos.deeds import DoDeed
from workers.beat import TimetableScheduler
from workers.pings import PingSender

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery

    from workers.beat import TimetableEntry

SLOT_VARIABLE: Final = "CHAOS_NIGHTLY_SLOT"
"""When the slot of tonight begins, ISO 8601. Without it there are no such entries."""

SWITCH_VARIABLE: Final = "CHAOS_NIGHTLY_SWITCH"
"""The address of the dead-man switch of these entries, before their name. Without it nobody hears of them."""

# A crew with backups has entries of these names. The crew of the test has none, so that they are free here, and
# `nightcrew status` looks at them as soon as it is told that there are backups.
CAUGHT_UP: Final = "vault-verify"
NEVER: Final = "vault-prune"
EACH: Final = "nightly-each"

GRACE: Final = timedelta(seconds=3)
_NIGHT: Final = timedelta(days=1)
_STEP: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyDeed:
    """A deed at the same second of each day, and in the seconds after it if it is done several times a night."""

    name: str
    slot: datetime
    catch_up: Literal["none", "last", "all"]
    times: int = 1
    message: DoDeed = field(default_factory=DoDeed)
    grace: timedelta = GRACE
    max_duration: timedelta = timedelta(minutes=1)
    expires: timedelta = timedelta(hours=12)

    def slot_at(self, instant: datetime) -> datetime:
        """Give the newest slot at or before the instant."""
        night = self._night_of(instant)
        return self.slot + night * _NIGHT + self._number_of(instant, night) * _STEP

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        """Give the slots after the instant, without end."""
        nights = count(self._night_of(instant))
        slots = (self.slot + night * _NIGHT + number * _STEP for night in nights for number in range(self.times))
        return dropwhile(lambda slot: slot <= instant, slots)

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the slots later than `after` and not later than `until`."""
        return takewhile(lambda slot: slot <= until, self.slots_after(after))

    def _night_of(self, instant: datetime) -> int:
        return (instant - self.slot) // _NIGHT

    def _number_of(self, instant: datetime, night: int) -> int:
        return min((instant - self.slot - night * _NIGHT) // _STEP, self.times - 1)


def nightly_entries(slot: datetime) -> tuple[NightlyDeed, NightlyDeed, NightlyDeed]:
    """Give the entry that catches up, the one that does not, and the one that catches up on all of its slots."""
    return (
        NightlyDeed(name=CAUGHT_UP, slot=slot, catch_up="last"),
        NightlyDeed(name=NEVER, slot=slot, catch_up="none"),
        NightlyDeed(name=EACH, slot=slot, catch_up="all", times=3),
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
    if SWITCH_VARIABLE in os.environ:
        signals.worker_ready.connect(_tell_the_switch, weak=False)


def _extend_timetable(**_: Any) -> None:
    runtime = runtimes.current()
    more = {entry.name: entry for entry in _ENTRIES}
    watched = runtime.ledger.watched_entries | (more.keys() if SWITCH_VARIABLE in os.environ else set())
    ledger = replace(runtime.ledger, watched_entries=watched)
    runtimes.install(replace(runtime, timetable={**runtime.timetable, **more}, ledger=ledger))


def _tell_the_switch(**_: Any) -> None:
    runtime, url = runtimes.current(), os.environ[SWITCH_VARIABLE]
    targets = {entry.name: SecretStr(f"{url}/{entry.name}") for entry in _ENTRIES}
    PingSender(runtime, targets, timeout_s=5.0).start()
