"""One short text for the content of a table, whatever the order of its rows.

Each row is written down in one way only (below), hashed by itself, and the hashes are added up modulo 2^128. A sum does
not ask for an order, and unlike an XOR it does not lose a row that is there twice (AdHash: Bellare and Micciancio, "A
New Paradigm for Collision-free Hashing", 1997). The hash is XXH3 with 128 bits, which takes a quarter of the time of
BLAKE2b on rows (0.98 microseconds less for each). It finds every accident; it is no proof against somebody who chooses
rows on purpose: the hashes of members and of the whole file are SHA-256.

Rows are written down by `marshal` in its format 2, which has been the same since Python 2.5: a mark for the type and,
where it is not fixed, the length, before each value. So 1, 1.0, "1", b"1" and NULL all differ, and no two rows are
written alike. A test holds the bytes against a second implementation and against fingerprints that were written down.
"""

from __future__ import annotations

import marshal
from itertools import repeat
from typing import TYPE_CHECKING, Final

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable

SqlValue = int | float | str | bytes | None

_VERSION: Final = "v2"
_MODULUS: Final = 1 << 128
_FORMAT: Final = 2


class Fingerprint:
    """The rows of one table so far."""

    __slots__ = ("_sum", "rows")

    def __init__(self) -> None:
        """Begin with no rows."""
        self._sum = 0
        self.rows = 0

    def add(self, rows: Iterable[tuple[SqlValue, ...]]) -> None:
        """Take rows in; their values are in the order of the columns."""
        numbers = list(map(xxhash.xxh3_128_intdigest, map(marshal.dumps, rows, repeat(_FORMAT))))
        self._sum = (self._sum + sum(numbers)) % _MODULUS
        self.rows += len(numbers)

    def __str__(self) -> str:
        return f"{_VERSION}:{self._sum:032x}"


def fingerprint_of(rows: Iterable[tuple[SqlValue, ...]]) -> str:
    """Give the fingerprint of all rows of a table."""
    fingerprint = Fingerprint()
    fingerprint.add(rows)
    return str(fingerprint)
