"""Which point an operator means."""

from __future__ import annotations

import pytest

from tasks.backups.choosing import PointNotFoundError, choose_point, restorable
from tests.unit.tasks.backups.histories import DAY, NOW, chain, damaged, delta, full, proven, suspect

FULL = full("aa11", taken_at=NOW - 2 * DAY)
DELTA = delta(FULL, "aa22")
LATEST = delta(DELTA, "bb33")
POINTS = [DELTA, proven(FULL), LATEST]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("latest", "bb33"), ("latest-full", "aa11"), ("latest-proven", "aa11"), ("b", "bb33"), (" BB33 ", "bb33")],
)
def test_a_point_is_found(wanted: str, expected: str) -> None:
    """Nicknames and unique beginnings of an id mean one point."""
    assert choose_point(POINTS, wanted).id == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("aa", r"aa is the beginning of 2 restore points: aa22 \(incremental, .* aa11 \(full, .*; give more of the id"),
        ("cc", "no restore point begins with cc; the newest are bb33"),
        ("newest", "'newest' is no restore point: give the beginning of an id, or one of latest, latest-full"),
        ("", "'' is no restore point"),
        ("%", "'%' is no restore point"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(wanted: str, message: str) -> None:
    """The error names the candidates."""
    with pytest.raises(PointNotFoundError, match=message):
        choose_point(POINTS, wanted)


def test_nicknames_skip_what_cannot_be_restored() -> None:
    """A damaged point and all that rests on it are never `latest`, nor is a broken one; by its id it is found."""
    first, second, third = chain(2)
    other = full("c0", taken_at=NOW - 9 * DAY)
    points = [first, damaged(second), third, other]
    assert choose_point(points, "latest").id == "a0"
    assert choose_point([third, other], "latest").id == "c0"
    assert choose_point(points, "a2").id == "a2"
    assert [point.id for point in restorable(points)] == ["a0", "c0"]


def test_a_suspect_point_is_still_the_latest() -> None:
    """What was there at that moment is what a restore of the latest gives, however small it is."""
    assert choose_point([*POINTS[:2], suspect(LATEST)], "latest").id == "bb33"


def test_a_proof_of_a_damaged_point_does_not_count() -> None:
    """What was proven once and is damaged now is not proven."""
    with pytest.raises(PointNotFoundError, match="none of the 1 restore points is proven by a restore"):
        choose_point([damaged(proven(FULL))], "latest-proven")


def test_profiles_are_apart() -> None:
    """The latest of a profile is never that of another one."""
    other = full("dd44", profile="other")
    assert choose_point([*POINTS, other], "latest", profile="default").id == "bb33"
    assert choose_point([*POINTS, other], "latest", profile="other").id == "dd44"
    with pytest.raises(PointNotFoundError, match="there is no restore point of the profile none yet: take one"):
        choose_point(POINTS, "latest", profile="none")
