"""Growth, days until full, ratios, and which slice is read next."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.storage import Check, Measure, NextSlice, foresee, next_slice, ratios, share_read
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW

if TYPE_CHECKING:
    from collections.abc import Sequence

GB = 1_000_000_000


def measure(days_ago: float, stored_bytes: int, *, free_bytes: int | None = 100 * GB) -> Measure:
    return Measure(
        measured_at=NOW - days_ago * DAY,
        points=10,
        stored_bytes=stored_bytes,
        staged_bytes=3 * stored_bytes,
        size_bytes=12 * stored_bytes,
        free_bytes=free_bytes,
    )


def growing(days: int, per_day: int) -> list[Measure]:
    return [measure(days - day, 50 * GB + day * per_day) for day in range(days + 1)]


def test_growth_and_days_until_full() -> None:
    """A gigabyte a day fills 100 GB in 100 days."""
    found = foresee(growing(20, GB), now=NOW)
    assert found.growth_bytes_per_day == pytest.approx(GB)
    assert found.days_until_full == pytest.approx(100)
    assert found.reason == "measures of 21 days since 2026-11-03"


def test_a_prune_a_first_full_and_a_wrong_measure_move_it_little() -> None:
    """Three of twenty days are far off, and the growth is still that of the others."""
    measures = growing(20, GB)
    for day, stored_bytes in ((3, 400 * GB), (9, 0), (10, 5 * GB)):
        measures[day] = measure(20 - day, stored_bytes)
    assert foresee(measures, now=NOW).growth_bytes_per_day == pytest.approx(GB, rel=0.1)


@pytest.mark.parametrize(
    ("measures", "growth", "reason"),
    [
        ([], None, "not known before there are measures of 3 days: there are 0"),
        (growing(1, GB), None, "not known before there are measures of 3 days: there are 2"),
        ([measure(0, 1), measure(0.01, 2), measure(0.02, 3)], None, "not known before there are measures of 3 days"),
        (growing(10, -GB), -GB, "it does not grow; measures of 11 days"),
        (growing(10, 0), 0, "it does not grow; measures of 11 days"),
        ([measure(day, GB, free_bytes=None) for day in (3, 2, 1)], 0, "nobody can tell what is free there; "),
    ],
)
def test_where_nobody_can_tell_it_is_said_why(measures: list[Measure], growth: float | None, reason: str) -> None:
    """No number is better than a wrong one."""
    found = foresee(measures, now=NOW)
    assert (found.growth_bytes_per_day, found.days_until_full) == (growth, None)
    assert found.reason.startswith(reason)


def test_only_the_last_thirty_days_count_and_nothing_from_the_future() -> None:
    """What was long ago, and what a clock has put into the future, says nothing."""
    old = [measure(days_ago, 900 * GB) for days_ago in range(31, 90)]
    ahead = [measure(-5, 0), measure(-6, 0)]
    assert foresee([*old, *growing(20, GB), *ahead], now=NOW) == foresee(growing(20, GB), now=NOW)


def test_the_hour_of_a_backup_says_nothing() -> None:
    """Many measures of a day count as its last one."""
    hourly: list[Measure] = []
    for one in growing(10, GB):
        hourly += [measure((NOW - one.measured_at) / DAY + hours / 24, 7 * GB) for hours in (1, 2, 3)]
    assert foresee([*growing(10, GB), *hourly], now=NOW).growth_bytes_per_day == pytest.approx(GB)


@given(st.lists(st.tuples(st.integers(0, 29 * 24), st.integers(0, 10**15)), max_size=60))
def test_an_outlook_never_depends_on_the_order(facts: list[tuple[int, int]]) -> None:
    """Measures in any order give the same, and days only where it grows."""
    measures = [measure(hours / 24, stored) for hours, stored in dict(facts).items()]
    found = foresee(measures, now=NOW)
    assert foresee(list(reversed(measures)), now=NOW) == found
    assert (found.days_until_full is None) == (not found.growth_bytes_per_day or found.growth_bytes_per_day < 0)


def test_ratios_say_what_is_saved_where() -> None:
    """A quarter is staged, a third of that is stored, a twelfth in all; nothing stored has no ratio."""
    found = ratios(measure(0, 7 * GB))
    assert (found.compression, found.dedup, found.total) == (4, 3, 12)
    nothing = ratios(measure(0, 0))
    assert (nothing.compression, nothing.dedup, nothing.total) == (None, None, None)


def check(number: int | None, hours_ago: float, *, sound: bool = True, of: int | None = 5) -> Check:
    return Check(checked_at=NOW - hours_ago * HOUR, slice=number, slices=of, is_sound=sound)


@pytest.mark.parametrize(
    ("checks", "expected", "reason"),
    [
        ([], 1, "it was never read"),
        ([check(None, 1, of=None)], 1, "it was never read"),
        ([check(1, 9, of=30), check(2, 9, of=30)], 1, "it was never read"),
        ([check(1, 9), check(2, 8)], 3, "it was never read"),
        ([check(3, 9), check(1, 8), check(2, 7), check(5, 6), check(4, 5)], 3, "last read 2026-11-22, before all"),
        ([check(1, 9), check(2, 8, sound=False)], 2, "it was damaged when it was last read"),
        ([check(1, 9, sound=False), check(2, 8, sound=False)], 1, "it was damaged when it was last read"),
        ([check(2, 9, sound=False), check(2, 8)], 1, "it was never read"),
        ([check(1, 9, sound=False), check(1, 8, sound=False)], 2, "it was never read"),
        ([check(1, 9, sound=False), check(1, 8), check(1, 7, sound=False)], 1, "it was damaged when it was last read"),
    ],
)
def test_which_slice_is_read_next(checks: list[Check], expected: int, reason: str) -> None:
    """Damaged ones first, once; then what was never read; then what was read longest ago."""
    assert next_slice(checks, 5) == NextSlice(number=expected, of=5, reason=reason)
    assert next_slice(list(reversed(checks)), 5) == next_slice(checks, 5)


def test_without_slices_nothing_is_read() -> None:
    """0 means the structure alone."""
    assert next_slice([check(1, 1)], 0) is None
    assert share_read([], 0, now=NOW) is None


@given(st.integers(1, 40), st.sets(st.integers(1, 40), max_size=3), st.integers(0, 39))
def test_all_slices_are_read_within_their_number_of_days(slices: int, bad: set[int], first: int) -> None:
    """One a day reads all in as many days, and one more for each slice that is damaged and read again."""
    bad = {number for number in bad if number <= slices}
    checks = run_daily(slices, bad, days=first)
    for _ in range(3):
        seen = run_daily(slices, bad, days=slices + len(bad), after=checks)[len(checks) :]
        assert {one.slice for one in seen} == set(range(1, slices + 1))
        checks += seen


def test_the_share_that_was_read_counts_what_was_sound_and_recent() -> None:
    """Of five slices two were read soundly within five days."""
    checks = [check(1, 1), check(2, 30), check(3, 2, sound=False), check(4, 6 * 24), check(5, 1, of=30)]
    assert share_read(checks, 5, now=NOW) == 2 / 5


def run_daily(slices: int, bad: set[int], *, days: int, after: Sequence[Check] = ()) -> list[Check]:
    checks = list(after)
    for _ in range(days):
        chosen = next_slice(checks, slices)
        assert chosen is not None
        moment = checks[-1].checked_at + DAY if checks else datetime(2026, 1, 1, tzinfo=NOW.tzinfo)
        sound = chosen.number not in bad
        checks.append(Check(checked_at=moment, slice=chosen.number, slices=slices, is_sound=sound))
    return checks
