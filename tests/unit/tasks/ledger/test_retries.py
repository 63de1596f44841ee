"""How long a job waits before it is tried again."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
from hypothesis import given

from tasks.ledger.retries import STANDARD


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delay_stays_in_its_bounds(attempt: int, chance: float) -> None:
    """However many attempts failed, the wait is at least half of the first delay and at most the longest one."""
    assert STANDARD.first_delay / 2 <= STANDARD.delay_after(attempt, chance=chance) <= STANDARD.longest_delay


def test_delay_doubles() -> None:
    """Without jitter each wait is twice the one before, until the longest."""
    delays = [STANDARD.delay_after(attempt, chance=1.0) for attempt in (1, 2, 3, 40)]
    assert delays == [timedelta(seconds=4), timedelta(seconds=8), timedelta(seconds=16), timedelta(minutes=10)]
