"""Which point is drilled next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.backups.choosing import PointNotFoundError, restorable
from tasks.backups.drills.choosing import WAIT_AFTER_NO_VERDICT, Sort, choose_due, sort_of
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, damaged, delta, full, hourly, proven, suspect

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.backups.points import RestorePoint

PROVEN_AT = NOW - 3 * DAY


def proven_on(point: RestorePoint, at: datetime) -> RestorePoint:
    return replace(point, proven_at=at)


def test_the_oldest_of_what_nobody_has_proven_comes_first() -> None:
    """A proven point waits, however old it is; of the others of one sort the oldest comes."""
    points = [
        proven(full("aa", taken_at=NOW - 80 * DAY)),
        full("bb", taken_at=NOW - 60 * DAY),
        full("cc", taken_at=NOW - 50 * DAY),
    ]
    due = choose_due(points, now=NOW)
    assert due.point.id == "bb"
    assert due.reason.startswith("never proven; ")


def test_a_sort_that_was_never_proven_comes_before_one_that_was() -> None:
    """An old full is proven, a deep increment never was: that is drilled, although another full is older."""
    first, *rest = chain(5)
    points = [
        proven_on(full("f1", taken_at=NOW - 60 * DAY), PROVEN_AT),
        full("f2", taken_at=NOW - 50 * DAY),
        proven_on(first, PROVEN_AT),
        *[proven_on(point, PROVEN_AT) for point in rest[:3]],
        *rest[3:],
    ]
    due = choose_due(points, now=NOW)
    assert due.point.id == "a4"
    assert due.reason == "never proven; no point of its sort (incremental, 4 deltas deep, 0 days old) was ever proven"


def test_the_sort_with_the_oldest_proof_comes_before_others() -> None:
    """Of two sorts whose points are unproven, the one that was proven longer ago is drilled, with the date."""
    points = [
        proven_on(full("f1", taken_at=NOW - 60 * DAY), NOW - 2 * DAY),
        full("f2", taken_at=NOW - 50 * DAY),
        proven_on(full("e1", taken_at=NOW - 20 * DAY), NOW - 9 * DAY),
        full("e2", taken_at=NOW - 10 * DAY),
    ]
    due = choose_due(points, now=NOW)
    assert due.point.id == "e2"
    assert due.reason == "never proven; the last proof of its sort (full, 10 days old) is of 2026-11-14"


def test_when_all_is_proven_the_oldest_proof_is_renewed() -> None:
    """There is always something to drill: of one sort, the point whose proof is the oldest."""
    points = [
        proven_on(full("f1", taken_at=NOW - 60 * DAY), NOW - 2 * DAY),
        proven_on(full("f2", taken_at=NOW - 50 * DAY), NOW - 30 * DAY),
    ]
    due = choose_due(points, now=NOW)
    assert due.point.id == "f2"
    assert due.reason.startswith("proven last on 2026-10-24; ")


def test_what_cannot_be_restored_is_left_out_and_what_is_suspect_is_not() -> None:
    """A damaged point and what rests on it are told elsewhere; a suspect point is what was there."""
    old = full("aa", taken_at=NOW - 60 * DAY)
    points = [damaged(old), delta(old, "bb"), suspect(full("cc", taken_at=NOW - 50 * DAY))]
    assert choose_due(points, now=NOW).point.id == "cc"
    with pytest.raises(PointNotFoundError, match="none of the 2 restore points can be restored"):
        choose_due(points[:2], now=NOW)
    with pytest.raises(PointNotFoundError, match="no restore point to drill yet"):
        choose_due([], now=NOW)


def test_a_point_without_a_verdict_lets_the_others_go_first() -> None:
    """What kept a drill from a verdict may stay: it comes again after a while, or when there is nothing else."""
    points = [full("aa", taken_at=NOW - 60 * DAY), full("bb", taken_at=NOW - 50 * DAY)]
    tried = {"aa": NOW - HOUR}
    assert choose_due(points, now=NOW, tried=tried).point.id == "bb"
    assert choose_due(points[:1], now=NOW, tried=tried).point.id == "aa"
    later = NOW + WAIT_AFTER_NO_VERDICT
    assert choose_due(points, now=later, tried=tried).point.id == "aa"
    proof = proven_on(points[1], NOW - HOUR)
    assert choose_due([points[0], proof], now=NOW, tried={"aa": NOW - HOUR, "bb": NOW - HOUR}).point.id == "bb"


def test_a_sort_is_age_depth_and_kind() -> None:
    """A day, a week, a month, a quarter; alone, three, nine; and what it is."""
    ages = [
        sort_of(full("aa", taken_at=NOW - age), NOW).age for age in (HOUR, DAY, 2 * DAY, 8 * DAY, 40 * DAY, 99 * DAY)
    ]
    assert ages == [0, 0, 1, 2, 3, 4]
    depths = [sort_of(point, NOW).depth for point in chain(11)]
    assert depths == [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3]
    assert sort_of(delta(full("aa"), "bb", "differential"), NOW) == Sort(age=0, depth=1, kind="differential")


def test_everything_is_proven_in_the_end() -> None:
    """Drilled again and again, each point of a history gets its turn before any gets a second one."""
    points = {point.id: point for point in hourly(4)}
    each_sort = {sort_of(point, NOW) for point in points.values()}
    drilled: list[str] = []
    for step in range(len(points)):
        now = NOW + step * timedelta(seconds=1)
        chosen = choose_due(list(points.values()), now=now).point
        points[chosen.id] = proven_on(chosen, now)
        drilled.append(chosen.id)
    assert sorted(drilled) == sorted(point.id for point in restorable(list(points.values())))
    first = {sort_of(points[point_id], NOW) for point_id in drilled[: len(each_sort)]}
    assert first == each_sort
