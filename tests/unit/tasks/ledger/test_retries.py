"""How long a job waits before it is tried again."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tasks.ledger.retries import ONCE, POLICIES, STANDARD, policy


@given(st.sampled_from(sorted(POLICIES)), st.integers(1, 10_000), st.floats(0, 1))
def test_delay_stays_in_its_bounds(name: str, attempt: int, chance: float) -> None:
    """However many attempts failed, the wait is at least half of the first delay and at most the longest one."""
    chosen = policy(name)
    assert chosen.first_delay / 2 <= chosen.delay_after(attempt, chance=chance) <= chosen.longest_delay


def test_unknown_policy_is_told_the_known_ones() -> None:
    """A name leads to its policy, and a wrong one to the list of names."""
    assert policy("once") is ONCE
    with pytest.raises(LookupError, match=r"'twice'; there are: standard, quick, patient, once"):
        policy("twice")


def test_delay_doubles() -> None:
    """Without jitter each wait is twice the one before, until the longest."""
    delays = [STANDARD.delay_after(attempt, chance=1.0) for attempt in (1, 2, 3, 40)]
    assert delays == [timedelta(seconds=4), timedelta(seconds=8), timedelta(seconds=16), timedelta(minutes=10)]
