"""Deadlines instead of sleeps, and the one honest reason to sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(predicate: Callable[[], T | None], *, timeout_s: float, what: str, interval_s: float = 0.01) -> T:
    """Call the predicate until it gives something true, and give that.

    Not for use under a frozen clock: the deadline is measured with `time.monotonic`.

    Raises:
        AssertionError: it was still not true after `timeout_s`; the text names `what` and the last value.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            msg = f"waited {timeout_s:g} s in vain for {what}; the last value was {value!r}"
            raise AssertionError(msg)
        time.sleep(interval_s)


def pause(seconds: float) -> None:
    """Let time pass: the pace of a load, or the chance moment of a fault. Never to let something happen meanwhile."""
    time.sleep(max(0.0, seconds))
