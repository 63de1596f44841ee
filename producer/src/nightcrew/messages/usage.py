"""Messages of the usage log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nightcrew.errors import InvalidMessageError
from nightcrew.messages.base import Message


@dataclass(frozen=True, kw_only=True)
class DrainUsage(Message):
    """Doorbell: there are entries in the usage log of this partition.

    It carries no counts. Lost, doubled or late, it changes nothing but the moment of the drain.
    """

    kind: ClassVar[str] = "usage.drain"
    queue: ClassVar[str] = "nightcrew.usage"

    partition: int | None = None
    """Partition of the log, from 0; None drains every partition (the timetable's safety net)."""

    def __post_init__(self) -> None:
        if self.partition is not None and (type(self.partition) is not int or self.partition < 0):
            msg = f"partition must be a whole number from 0 or null, not {self.partition!r}"
            raise InvalidMessageError(msg)
