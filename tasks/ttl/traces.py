"""What was asked of a cache: requests in the order of time, as arrays of numbers, by family."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class Operation(IntEnum):
    """What was done with a key."""

    GET = 0
    """Asked for: a hit, or a miss that is filled at once."""
    SET = 1
    """Written: it is there from then on, and counts as no request."""
    DELETE = 2
    """Taken away, as by an invalidation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests, the oldest first; all arrays have one length."""

    at_ms: NDArray[np.int64]
    """Milliseconds, as Redis counts them."""
    key: NDArray[np.int64]
    """A number for each key; which one it is does not matter."""
    operation: NDArray[np.int8]
    family: NDArray[np.int32]
    """Place in `families`."""
    families: Sequence[str]
    size_bytes: NDArray[np.int64] | None = None
    """Of the value; None where nobody knows."""

    def __len__(self) -> int:
        return len(self.at_ms)

    @property
    def gets(self) -> int:
        """How many of them are requests that hit or miss."""
        return int(np.count_nonzero(self.operation == Operation.GET))

    @property
    def span_ms(self) -> int:
        """From the first to the last."""
        return int(self.at_ms[-1] - self.at_ms[0]) if len(self) else 0

    def by_family(self) -> Iterator[tuple[str, Trace]]:
        """Give the part of each family, in alphabetical order."""
        for number in np.argsort(np.array(self.families)):
            chosen = self.family == number
            yield (
                self.families[number],
                Trace(
                    at_ms=self.at_ms[chosen],
                    key=self.key[chosen],
                    operation=self.operation[chosen],
                    family=np.zeros(int(np.count_nonzero(chosen)), dtype=np.int32),
                    families=(self.families[number],),
                    size_bytes=None if self.size_bytes is None else self.size_bytes[chosen],
                ),
            )
