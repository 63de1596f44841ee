"""An entry of the timetable: what is sent when, and what becomes of slots that were missed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from schedules import slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from nightcrew.messages import Message

CatchUp = Literal["none", "last", "all"]
"""What becomes of slots that nobody fired in time: none of them runs, only the newest, or every one."""

_KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something the crew does by the clock.

    Raises:
        ValueError: the entry does not say what it should; the text names the entry and the field.
    """

    name: str
    """In kebab case. It stands in the ledger and never changes."""
    cron: str
    """Five fields, UTC: minute, hour, day of the month, month, day of the week (0 is Sunday)."""
    message: Message
    catch_up: CatchUp
    grace: timedelta
    """A slot may start this late before it counts as missed by beat."""
    max_duration: timedelta
    """A run that takes longer than this is worth an alarm."""

    def __post_init__(self) -> None:
        if not _KEBAB_CASE.fullmatch(self.name):
            msg = f"entry {self.name!r}: name must be in kebab case, such as 'nightly-backup'"
            raise ValueError(msg)
        self._check_cron()
        if self.catch_up not in get_args(CatchUp):
            msg = f"entry {self.name!r}: catch_up must be one of {', '.join(get_args(CatchUp))}, not {self.catch_up!r}"
            raise ValueError(msg)
        for field in ("grace", "max_duration"):
            if getattr(self, field) <= timedelta():
                msg = f"entry {self.name!r}: {field} must be longer than nothing"
                raise ValueError(msg)

    @property
    def expires(self) -> timedelta:
        """How long a message of a slot is worth delivering: always less than the time to the next slot.

        Messages that pile up while no worker runs therefore vanish, and the ledger decides what to catch up.
        """
        return slots.shortest_period(self.cron) * 0.9

    def slot_at(self, instant: datetime) -> datetime:
        """Give the newest slot at or before the instant."""
        return slots.newest(self.cron, instant)

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        """Give the slots after the instant, without end."""
        return slots.following(self.cron, instant)

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the slots later than `after` and not later than `until`, in order."""
        return slots.between(self.cron, after, until)

    def _check_cron(self) -> None:
        try:
            slots.check(self.cron)
        except ValueError as error:
            msg = f"entry {self.name!r}: {error}"
            raise ValueError(msg) from error


def by_name(*entries: Entry) -> Mapping[str, Entry]:
    """Make a timetable, which cannot be changed.

    Raises:
        ValueError: two entries have one name.
    """
    timetable = {entry.name: entry for entry in entries}
    if len(timetable) < len(entries):
        names = [entry.name for entry in entries]
        msg = f"two entries are named {next(name for name in names if names.count(name) > 1)!r}"
        raise ValueError(msg)
    return MappingProxyType(timetable)
