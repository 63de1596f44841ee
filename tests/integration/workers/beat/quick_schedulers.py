"""Schedulers with entries that a test can wait for; beat imports them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from typing import TYPE_CHECKING, Literal

from nightcrew.messages import RunCanary
from workers.beat import TimetableScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightcrew.messages import Message

FIRST_IN = timedelta(seconds=1)
SECOND_IN = timedelta(seconds=5)
_START = datetime.now(UTC)


@dataclass(frozen=True)
class EverySecond:
    """Also what the ledger needs of an entry, so that a test can fire what beat sends."""

    name: str = "every-second"
    message: Message = field(default_factory=RunCanary)
    expires: timedelta = timedelta(seconds=0.9)
    catch_up: Literal["none", "last", "all"] = "all"
    grace: timedelta = timedelta(seconds=0.9)
    max_duration: timedelta = timedelta(seconds=1)

    def slot_at(self, instant: datetime) -> datetime:
        return instant.replace(microsecond=0)

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        return (self.slot_at(instant) + timedelta(seconds=number) for number in count(1))

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return takewhile(lambda slot: slot <= until, self.slots_after(after))


@dataclass(frozen=True)
class Twice:
    name: str = "twice"
    expires: timedelta = timedelta(minutes=1)

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        slots = (_START + FIRST_IN, _START + SECOND_IN, _START + timedelta(days=365), _START + timedelta(days=366))
        return iter([slot for slot in slots if slot > instant])


class EverySecondScheduler(TimetableScheduler):
    entries = (EverySecond(),)


class TwiceScheduler(TimetableScheduler):
    entries = (Twice(),)


class ReconcileScheduler(TimetableScheduler):
    """Sends each second what the crew's own beat sends each minute."""

    entries = (EverySecond(name="ledger-reconcile"),)
