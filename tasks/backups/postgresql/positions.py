"""Places in the write-ahead log of PostgreSQL.

A place (LSN) counts bytes since the cluster was made; it is written as two hexadecimal halves, `16/B374D848`. The log
is cut into segments of equal size, each a file (https://www.postgresql.org/docs/current/wal-internals.html).
"""

from __future__ import annotations

import re
from typing import Final

from tasks.errors import PermanentError

_TEXT: Final = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.IGNORECASE)
_HALF_BITS: Final = 32


def parse_position(text: str) -> int:
    """Read a place as the server writes it.

    Raises:
        PermanentError: it is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no place in a write-ahead log"
        raise PermanentError(msg)
    return int(found[1], 16) << _HALF_BITS | int(found[2], 16)


def position_text(position: int) -> str:
    """Write a place as the server does."""
    return f"{position >> _HALF_BITS:X}/{position & (1 << _HALF_BITS) - 1:X}"


def segment_name(position: int, *, timeline: int, segment_bytes: int) -> str:
    """Name the file that holds the byte at a place."""
    per_half = (1 << _HALF_BITS) // segment_bytes
    high, low = divmod(position // segment_bytes, per_half)
    return f"{timeline:08X}{high:08X}{low:08X}"
