"""An entry as it lies in Redis: a line of numbers about it, and on the next one the value as compact JSON.

    1 written_ms fill_ms ttl_ms

Text that is not of this form is nobody's entry: it counts as not there, and is told as an error.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from nightcrew.errors import NightcrewError

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of a value, as JSON."""


class UncacheableError(NightcrewError, ValueError):
    """A value is no JSON, or too large to be kept."""


class ForeignEntryError(ValueError):
    """What lies there was not written by this library, or by another release of it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with what is known of it."""

    value: Any
    written_ms: int
    """When it was filled or written, by the clock of whoever did."""
    fill_ms: int
    """How long its source took."""
    ttl_ms: int
    size_bytes: int

    def is_worth_refreshing(self, now_ms: float, *, eagerness: float, chance: float) -> bool:
        """Draw whether it is filled again before its end: the likelier the nearer that is, and the longer it takes.

        XFetch: Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
        `chance` is from 0 (excluded) to 1.
        """
        if not eagerness or not self.fill_ms:
            return False
        return now_ms - self.fill_ms * eagerness * math.log(chance) >= self.written_ms + self.ttl_ms


def encode(value: Any, *, written_ms: int, fill_ms: int, ttl_ms: int) -> bytes:
    """Write an entry.

    Raises:
        UncacheableError: the value is no JSON, or has more than 8 MiB.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"only JSON can be kept in the cache: {error}"
        raise UncacheableError(msg) from None
    if len(text) > MOST_BYTES:
        msg = f"the value has {len(text)} bytes as JSON; the cache keeps {MOST_BYTES} at most"
        raise UncacheableError(msg)
    return b"1 %d %d %d\n%b" % (written_ms, fill_ms, ttl_ms, text)


def decode(content: bytes) -> Entry:
    """Read an entry.

    Raises:
        ForeignEntryError: it is none.
    """
    head, _, text = content.partition(b"\n")
    try:
        form, written_ms, fill_ms, ttl_ms = head.split(b" ")
        if form != b"1":
            raise ForeignEntryError(form[:20])
        return Entry(json.loads(text), int(written_ms), int(fill_ms), int(ttl_ms), len(content))
    except (ValueError, RecursionError) as error:
        msg = f"no entry of the cache: {content[:40]!r}"
        raise ForeignEntryError(msg) from error
