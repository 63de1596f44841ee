"""UUIDs of version 7 (RFC 9562, section 5.7): sorted by the time they were made.

Within a process each is larger than the one before, even within a millisecond and when the clock is
set back: section 6.2, method 2 (the random part is counted on).
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid

_VARIANT_AND_VERSION = (0x7 << 76) | (0b10 << 62)
_RANDOM_BITS = 74
_LOW_BITS = 62
_STEP_BITS = 32  # counted on by a random step, so that the next id cannot be guessed

_lock = threading.Lock()
_last = [0, 0]


def uuid7() -> uuid.UUID:
    """Make the next id."""
    with _lock:
        millisecond, tail = time.time_ns() // 1_000_000, secrets.randbits(_RANDOM_BITS - 1)
        if millisecond <= _last[0]:
            millisecond, tail = _last[0], _last[1] + 1 + secrets.randbits(_STEP_BITS)
            if tail >> _RANDOM_BITS:  # not within one millisecond on any machine, but a clock may stand still
                millisecond, tail = millisecond + 1, secrets.randbits(_RANDOM_BITS - 1)
        _last[:] = millisecond, tail
    high, low = tail >> _LOW_BITS, tail & ((1 << _LOW_BITS) - 1)
    return uuid.UUID(int=(millisecond << 80) | _VARIANT_AND_VERSION | (high << 64) | low)


def _forget_after_fork() -> None:
    """Parent and child must not count on from the same random part."""
    global _lock  # noqa: PLW0603 - another thread may have held it when the process forked
    _lock = threading.Lock()
    _last[1] = secrets.randbits(_RANDOM_BITS - 1)


os.register_at_fork(after_in_child=_forget_after_fork)
