"""A clock that a test turns while workers read it: a file mapped into memory."""

from __future__ import annotations

import mmap
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE: Final = "CHAOS_CLOCK"
"""Names the file to the workers; without it they go by the clock of the machine."""

_FIELDS: Final = 2
_FIELD_BYTES: Final = 8


class TurnedClock:
    """The time of the machine and what it was turned by, for every process or for one."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_FIELDS * _FIELD_BYTES))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), _FIELDS * _FIELD_BYTES)).cast("q")

    def turn(self, by: timedelta, *, pid: int = 0) -> None:
        """Turn it, from the true time; `pid` names the only process that shall see it, 0 is everyone."""
        self._numbers[1] = pid
        self._numbers[0] = round(by.total_seconds())

    def now(self) -> datetime:
        """Tell the time."""
        offset_s, pid = self._numbers[0], self._numbers[1]
        turned = timedelta(seconds=offset_s) if pid in {0, os.getpid()} else timedelta(0)
        return datetime.now(UTC) + turned
