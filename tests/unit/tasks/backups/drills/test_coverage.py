"""How much of what is kept is proven, and what could be restored to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.backups.drills.coverage import FIRST_OVERDUE, OVERDUE, WINDOW, coverage, percent, reachable, why_overdue
from tasks.backups.drills.verdicts import Verdict
from tests.unit.tasks.backups.drills.drilled import drill
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, damaged, full

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.backups.points import RestorePoint

MOMENT = timedelta(microseconds=1)


def proven_on(point: RestorePoint, at: datetime) -> RestorePoint:
    return replace(point, proven_at=at)


def test_the_share_is_of_all_that_is_kept() -> None:
    """Two of three, and the third is named; the share is never rounded up to all."""
    points = [
        proven_on(full("a1", taken_at=NOW - 3 * DAY), NOW - DAY),
        full("b1", taken_at=NOW - 2 * DAY),
        proven_on(full("c1", taken_at=NOW - DAY), NOW),
    ]
    found = coverage(points, now=NOW)
    assert (found.points, found.proven) == (3, 2)
    assert found.oldest_unproven is not None
    assert found.oldest_unproven.point_id == "b1"
    assert str(found) == "66 % of 3 points in the last 30 days"
    assert percent(199, 200) == 99
    assert str(coverage([points[0]], now=NOW)) == "100 % of 1 point in the last 30 days"


def test_a_proof_is_believed_for_thirty_days() -> None:
    """On the last moment it counts, after it no more."""
    point = full("a1", taken_at=NOW - 40 * DAY)
    assert coverage([proven_on(point, NOW - WINDOW)], now=NOW).proven == 1
    assert coverage([proven_on(point, NOW - WINDOW - MOMENT)], now=NOW).proven == 0


def test_what_rests_on_something_damaged_is_not_proven() -> None:
    """A proof of before does not help a point whose full has been found damaged since."""
    first, second = (proven_on(point, NOW) for point in chain(1))
    assert coverage([first, second], now=NOW).proven == 2
    found = coverage([damaged(first), second], now=NOW)
    assert (found.points, found.proven) == (2, 0)
    assert found.oldest_unproven is not None
    assert found.oldest_unproven.point_id == first.id


def test_without_points_there_is_no_share() -> None:
    """Neither 0 nor 100 of 100."""
    found = coverage([], now=NOW)
    assert (found.share, found.oldest_unproven, str(found)) == (None, None, "no points yet")


def test_the_newest_proven_point_is_what_could_be_restored_to() -> None:
    """Newer ones are not proven, are damaged, or hold only a part of what there is."""
    points = [
        proven_on(full("a1", taken_at=NOW - 5 * DAY, predicted_rto_s=80.0), NOW - 4 * DAY),
        proven_on(full("b1", taken_at=NOW - 3 * DAY, predicted_rto_s=90.0), NOW - 40 * DAY),
        damaged(proven_on(full("c1", taken_at=NOW - 2 * DAY), NOW)),
        full("d1", taken_at=NOW - DAY),
        proven_on(full("e1", taken_at=NOW - DAY, profile="settings"), NOW),
    ]
    found = reachable(points, [], profile="default")
    assert found is not None
    assert (found.point_id, found.rto_s, found.rto_is) == ("b1", 90.0, "predicted")
    assert str(found) == ("you could restore to 2026-11-20 04:00Z (proven 2026-10-14 04:00Z, RTO 1 min 30 s predicted)")


def test_the_time_is_that_of_the_drill_that_proved_it() -> None:
    """The newest pass of this very point; a fail and other points say nothing of it."""
    point = proven_on(full("b1", taken_at=NOW - DAY, predicted_rto_s=90.0), NOW)
    drills = [
        drill(99.0, point_id="zz"),
        drill(12.0, point_id="b1", finished_at=NOW - HOUR),
        drill(50.0, point_id="b1", finished_at=NOW - DAY),
        drill(70.0, point_id="b1", verdict=Verdict.FAIL),
    ]
    found = reachable([point], drills, profile="default")
    assert found is not None
    assert found.rto_s == pytest.approx(12.0)
    assert found.rto_is == "measured"
    assert str(found).endswith("(proven 2026-11-23 04:00Z, RTO 12 s)")


def test_a_time_that_nobody_knows_is_left_out() -> None:
    """And where nothing is proven there is nothing to say."""
    found = reachable([proven_on(full("b1"), NOW)], [], profile="default")
    assert found is not None
    assert (found.rto_s, found.rto_is) == (None, None)
    assert str(found) == "you could restore to 2026-11-23 04:00Z (proven 2026-11-23 04:00Z)"
    assert reachable([full("b1")], [], profile="default") is None


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([], ""),
        ([proven_on(full("a1", taken_at=NOW - 90 * DAY), NOW - OVERDUE)], ""),
        (
            [proven_on(full("a1", taken_at=NOW - 90 * DAY), NOW - OVERDUE - MOMENT)],
            "nothing was proven since 2026-10-19 03:59Z",
        ),
        ([full("a1", taken_at=NOW - FIRST_OVERDUE)], ""),
        (
            [full("a1", taken_at=NOW - FIRST_OVERDUE - MOMENT)],
            "none of 1 points is proven to restore, the oldest is of 2026-11-21 03:59Z",
        ),
        (
            [damaged(proven_on(full("a1", taken_at=NOW - 9 * DAY), NOW))],
            "none of 1 points is proven to restore, the oldest is of 2026-11-14 04:00Z",
        ),
    ],
)
def test_a_proof_that_does_not_come_is_told(points: list[RestorePoint], told: str) -> None:
    """After 35 days, or two where nothing was ever proven; what is damaged since proves nothing."""
    assert why_overdue(points, now=NOW) == told
