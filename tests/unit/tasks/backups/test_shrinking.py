"""When a point is suspiciously small."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.assessment import assess
from tasks.backups.forecast import MeasuredRestore, Workload, predict, workload_of
from tasks.backups.points import PointState
from tasks.backups.shrinking import SizeJudgement, judge_size
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, damaged, delta, full, suspect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.points import RestorePoint


def with_rows(*rows: int | None) -> list[RestorePoint]:
    """Give a chain whose points have these rows, the last one taken now."""
    points = chain(len(rows) - 1)
    return [replace(point, rows=count) for point, count in zip(points, rows, strict=True)]


def judged(points: Sequence[RestorePoint], share: float = 0.5) -> SizeJudgement:
    """Judge the last one."""
    return judge_size(points[-1], points[:-1], shrink_share=share)


@pytest.mark.parametrize(
    ("rows", "verdict", "reason"),
    [
        ([100, 100, 100, 100], "fine", "rows 100, the median of the 3 before it is 100"),
        ([100, 100, 100, 50], "fine", "rows 50, the median of the 3 before it is 100"),
        ([100, 100, 100, 49], "suspect", "rows 49, the median of the 3 before it is 100: below 50% of it"),
        ([100, 100, 100, 0], "suspect", "rows 0, the median of the 3 before it is 100: below 50% of it"),
        ([0, 0, 0, 0], "fine", "rows 0, the median of the 3 before it is 0"),
        ([1, 100, 100, 1], "suspect", "rows 1, the median of the 3 before it is 100: below 50% of it"),
        ([100, 100, 1, 1, 1, 1, 1, 1, 1, 1], "fine", "rows 1, the median of the 7 before it is 1"),
        ([100, 100, 1], "not judged", "not judged: fewer than 3 points before it to compare with"),
        ([100, None, 100, 1], "not judged", "not judged: fewer than 3 points before it to compare with"),
        ([100, 100, 100, None], "not judged", "not judged: fewer than 3 points before it to compare with"),
    ],
)
def test_rows_are_compared_with_the_median_of_the_last_seven(rows: list[int | None], verdict: str, reason: str) -> None:
    """Below half of it is suspect, with the figures; half itself is not; without three points nothing is said."""
    found = judged(with_rows(*rows))
    assert found == SizeJudgement(is_suspect=verdict == "suspect", is_judged=verdict != "not judged", reason=reason)


def test_what_was_staged_is_compared_among_fulls_alone() -> None:
    """A delta is always small beside a full, and says nothing."""
    fulls = [full(f"b{number}", taken_at=NOW - (9 - number) * DAY) for number in range(3)]
    small = full("b9", staged_bytes=19_000_000)
    found = judged([*fulls, small])
    assert found.is_suspect
    assert found.reason == "staged bytes 19 MB, the median of the 3 before it is 40 MB: below 50% of it"
    assert not judged([*fulls, delta(fulls[-1], "b9", taken_at=NOW)]).is_suspect
    deltas = [delta(fulls[0], f"c{number}", taken_at=NOW - HOUR) for number in range(7)]
    assert judged([*fulls, *deltas, small]).is_suspect


def test_both_figures_are_told_of_one_that_is_in_order() -> None:
    """The reason has what was compared."""
    fulls = [full(f"b{number}", taken_at=NOW - (9 - number) * DAY) for number in range(4)]
    assert judged(fulls).reason == (
        "rows 10000, the median of the 3 before it is 10000; staged bytes 40 MB, the median of the 3 before it is 40 MB"
    )


def test_suspect_and_damaged_points_are_no_measure() -> None:
    """Small points do not become the rule by being many."""
    points = with_rows(100, 100, 100, 1, 1, 1, 1, 1, 1)
    points = [*points[:3], *map(suspect, points[3:7]), damaged(points[7]), points[8]]
    assert judged(points).is_suspect


def test_after_an_accepted_point_the_older_ones_do_not_count() -> None:
    """An operator who says that the fall is right is not asked again."""
    points = with_rows(100, 100, 100, 10, 10, 10, 10)
    accepted = replace(points[3], state_reason="accepted by ada: the archive moved")
    first, last = [*points[:3], accepted, points[4]], [*points[:3], accepted, *points[4:]]
    assert judged(first).reason.startswith("not judged")
    assert judged(last).reason == "rows 10, the median of the 3 before it is 10"


def test_other_profiles_and_later_points_do_not_count() -> None:
    """Only what was taken before it, of the same things."""
    points = with_rows(100, 100, 100, 100)
    other = [replace(point, profile="other") for point in points[:3]]
    later = [replace(point, taken_at=point.taken_at + DAY) for point in points[:3]]
    assert not judged([*other, *later, points[3]]).is_judged


@given(st.lists(st.integers(0, 10**9), min_size=4, max_size=12), st.floats(0.01, 0.99), st.randoms())
def test_more_rows_are_never_more_suspect(rows: list[int], share: float, random: Any) -> None:
    """A point with more rows is suspect only if the smaller one is; the order of the others does not matter."""
    points = with_rows(*rows)
    shuffled = random.sample(points[:-1], len(points) - 1)
    larger = replace(points[-1], rows=(points[-1].rows or 0) + 1)
    assert judged([*shuffled, points[-1]], share) == judged(points, share)
    assert judged([*points[:-1], larger], share).is_suspect <= judged(points, share).is_suspect


def test_an_assessed_point_has_state_and_forecast() -> None:
    """A point that is small is suspect with the figures, and every whole one has its expected time."""
    points = with_rows(100, 100, 100, 10)
    found = assess(points[-1], points[:-1], shrink_share=0.5)
    assert found.state is PointState.SUSPECT
    assert found.state_reason == "rows 10, the median of the 3 before it is 100: below 50% of it"
    assert found.predicted_rto_s == predict(workload_of(points)).seconds
    measured = [MeasuredRestore(work=Workload(size_bytes=0), seconds=7.0)]
    assert assess(points[-1], points, shrink_share=0.5, measured=measured).predicted_rto_s == pytest.approx(
        7 * predict(workload_of(points)).seconds
    )


def test_a_point_without_its_chain_has_no_forecast() -> None:
    """Nobody knows how long it takes to restore what cannot be restored; and damaged stays damaged."""
    points = with_rows(100, 100, 100, 10)
    assert assess(points[-1], points[:1], shrink_share=0.5).predicted_rto_s is None
    assert assess(damaged(points[-1]), points[:-1], shrink_share=0.5).state is PointState.DAMAGED
