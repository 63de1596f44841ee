"""Schedulers with entries that a test can wait for; beat imports them by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from workers.beat import TimetableScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_IN = timedelta(seconds=1)
SECOND_IN = timedelta(seconds=5)
_START = datetime.now(UTC)


@dataclass(frozen=True)
class EverySecond:
    name: str = "every-second"
    expires: timedelta = timedelta(seconds=0.9)

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        slot = instant.replace(microsecond=0)
        while True:
            slot += timedelta(seconds=1)
            yield slot


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
