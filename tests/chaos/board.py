"""A few numbers that two processes share, and that outlive both: a file mapped into memory."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_FIELDS = 4
_FIELD_BYTES = 8


class Board:
    """How far an app may count and how far it is. Each number has one writer, and a kill leaves it as it was."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_FIELDS * _FIELD_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FIELDS * _FIELD_BYTES)
        self._numbers = memoryview(self._map).cast("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._numbers.release()
        self._map.close()

    @property
    def allowed(self) -> int:
        """Calls that the test allows so far."""
        return self._numbers[0]

    @allowed.setter
    def allowed(self, calls: int) -> None:
        self._numbers[0] = calls

    @property
    def begun(self) -> int:
        """Calls of `increment` that the app has made."""
        return self._numbers[1]

    @begun.setter
    def begun(self, calls: int) -> None:
        self._numbers[1] = calls

    @property
    def returned(self) -> int:
        """Those of them that have come back."""
        return self._numbers[2]

    @returned.setter
    def returned(self, calls: int) -> None:
        self._numbers[2] = calls

    @property
    def flushed(self) -> int:
        """Those of them that a successful `flush()` has covered."""
        return self._numbers[3]

    @flushed.setter
    def flushed(self, calls: int) -> None:
        self._numbers[3] = calls
