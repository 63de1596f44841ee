"""When a process that died is started again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.supervisor.restarts import RestartPolicy

POLICY = RestartPolicy(first_pause_s=0.5, factor=2.0, longest_pause_s=30.0, stable_after_s=60.0)


def test_the_first_restart_is_at_once() -> None:
    """One death costs no time."""
    assert POLICY.pause_s(1) == 0.0


def test_pauses_double_up_to_the_longest() -> None:
    """A process that keeps dying is left alone ever longer, but never for good."""
    assert [POLICY.pause_s(failures) for failures in range(2, 10)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(min_value=0, max_value=10**9))
def test_no_row_of_deaths_is_too_long(failures: int) -> None:
    """The pause stays within its bounds for any number of deaths."""
    assert 0.0 <= POLICY.pause_s(failures) <= POLICY.longest_pause_s


def test_pauses_never_shrink_within_a_row() -> None:
    """One more death never shortens the pause."""
    pauses = [POLICY.pause_s(failures) for failures in range(200)]
    assert all(earlier <= later for earlier, later in pairwise(pauses))


def test_a_stable_run_ends_the_row() -> None:
    """A death after a long run counts as the first one."""
    assert POLICY.failures_after(7, ran_s=60.0) == 1


def test_a_short_run_goes_on_with_the_row() -> None:
    """A death after a short run is one more."""
    assert POLICY.failures_after(7, ran_s=59.9) == 8
