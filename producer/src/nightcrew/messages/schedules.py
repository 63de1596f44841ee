"""Messages of the timetable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nightcrew.errors import InvalidMessageError
from nightcrew.messages.base import Message


@dataclass(frozen=True, kw_only=True)
class FireSchedule(Message):
    """An entry of the timetable is due; which slot it is, the worker decides."""

    kind: ClassVar[str] = "schedules.fire"
    queue: ClassVar[str] = "nightcrew.ledger"

    entry: str
    """Name of the entry in the timetable, in kebab case."""

    def __post_init__(self) -> None:
        if type(self.entry) is not str or not self.entry:
            msg = f"entry must name an entry of the timetable, not {self.entry!r}"
            raise InvalidMessageError(msg)
