"""Which points are kept, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from tasks.backups.points import PointState
from tasks.backups.retention import (
    UnsafeRetentionError,
    Verdict,
    decide_retention,
    deletions,
    ensure_safe,
    why_not_delete,
)
from tasks.runtime import RetentionOptions
from tests.unit.tasks.backups.histories import (
    DAY,
    HOUR,
    NOW,
    chain,
    damaged,
    delta,
    full,
    hourly,
    nightly,
    proven,
    suspect,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tasks.backups.points import RestorePoint

RULES = {"default": RetentionOptions()}
NOTHING = {"default": RetentionOptions(daily=0, weekly=0, monthly=0)}


def kept(
    points: Sequence[RestorePoint],
    rules: dict[str, RetentionOptions] = RULES,
    *,
    stored: Collection[str] | None = None,
) -> dict[str, str]:
    verdicts = decide_retention(points, rules, now=NOW, stored=stored)
    return {verdict.point.id: verdict.reason for verdict in verdicts if verdict.keep}


def lost(
    points: Sequence[RestorePoint],
    rules: dict[str, RetentionOptions] = RULES,
    *,
    stored: Collection[str] | None = None,
) -> dict[str, str]:
    verdicts = decide_retention(points, rules, now=NOW, stored=stored)
    return {verdict.point.id: verdict.reason for verdict in verdicts if not verdict.keep}


def fulls(*days_ago: float) -> list[RestorePoint]:
    return [full(f"f{age}", taken_at=NOW - age * DAY) for age in days_ago]


def test_the_newest_of_each_day_week_and_month_is_kept() -> None:
    """Two years of nightly fulls leave 7 days, 4 weeks and 12 months."""
    found = kept(fulls(*range(730)))
    for grid, count in (("daily", 7), ("weekly", 4), ("monthly", 12)):
        assert sum(grid in reason for reason in found.values()) == count
    assert found["f0"].startswith(
        "daily 2026-11-23, the newest of its day; weekly 2026-W48, the newest full of its week"
    )
    assert found["f23"] == "monthly 2026-10, the newest full of its month"


def test_days_without_a_point_take_no_slot() -> None:
    """After three weeks without backups nothing is let go that was kept before."""
    assert set(kept(fulls(*range(21, 28)))) == {f"f{age}" for age in range(21, 28)}


def test_weeks_are_iso_weeks_in_utc() -> None:
    """New Year's Day of 2027 lies in the last week of 2026, wherever the clock stands."""
    east = timezone(timedelta(hours=13))
    point = full("f0", taken_at=datetime(2027, 1, 2, 10, tzinfo=east))
    [verdict] = decide_retention([point], RULES, now=datetime(2027, 1, 9, tzinfo=UTC))
    assert verdict.reason.startswith("daily 2027-01-01, the newest of its day; weekly 2026-W53, the newest full")
    assert "monthly 2027-01" in verdict.reason


def test_weeks_and_months_prefer_fulls() -> None:
    """The full of the week has its slot, although incrementals are newer; a day has its newest point."""
    root = full("a0", taken_at=NOW - 30 * DAY)
    later = delta(root, "a1", taken_at=NOW - 29 * DAY)
    same_day = [full("b0", taken_at=NOW - 2 * HOUR), full("b1", taken_at=NOW - 3 * HOUR)]
    same_day.append(delta(same_day[0], "b2", taken_at=NOW - HOUR))
    found = kept([root, later, *same_day])
    assert found["a0"].startswith("daily 2026-10-24")
    assert "weekly" not in found["a1"]
    assert found["b2"] == "daily 2026-11-23, the newest of its day; newest"
    assert found["b0"].startswith("weekly 2026-W48, the newest full of its week; monthly")
    assert lost([root, later, *same_day]) == {"b1": "its day has b2, its week has b0, its month has b0"}


def test_where_there_is_no_full_the_newest_point_has_the_slot() -> None:
    """A week of incrementals alone has its newest one."""
    points = chain(40, taken_at=NOW)
    points = [replace(point, taken_at=NOW - (40 - number) * DAY) for number, point in enumerate(points)]
    assert "weekly 2026-W48, the newest of its week" in kept(points)["a40"]


def test_a_kept_incremental_keeps_its_full_and_all_deltas_before_it() -> None:
    """What nothing else keeps is needed by name."""
    found = kept(chain(3), NOTHING)
    assert found["a3"] == "newest"
    assert found["a1"] == "needed by a3"
    assert set(found) == {"a0", "a1", "a2", "a3"}


def test_the_other_side_of_a_fork_goes() -> None:
    """What a lost lease has left beside the chain is not needed by anything."""
    points = [*chain(3), delta(chain(3)[1], "b2")]
    assert set(lost(points, NOTHING)) == {"b2"}


def test_the_newest_proven_of_each_kind_stays() -> None:
    """However old they are, and however little is to be kept."""
    root = proven(full("a0", taken_at=NOW - 900 * DAY))
    old = [proven(delta(root, "a1")), proven(delta(root, "a2", "differential"))]
    newer = [full("b0", taken_at=NOW - DAY), full("b1", taken_at=NOW)]
    found = kept([root, *old, *newer], NOTHING)
    assert found == {
        "b1": "newest",
        "a2": "newest proven differential",
        "a1": "newest proven incremental",
        "a0": "newest proven full; needed by a2 and 1 more",
    }


def test_held_points_stay() -> None:
    """An operator decides."""
    old = replace(full("a0", taken_at=NOW - 900 * DAY), is_held=True)
    assert kept([old, *fulls(0, 1)], NOTHING) == {"f0": "newest", "a0": "held"}


def test_a_suspect_point_takes_no_slot_from_an_older_one() -> None:
    """Slots are filled as if it were not there; it is kept with its reason."""
    points = fulls(*range(12))
    expected = kept(points)
    with_suspects = [*points, suspect(full("s0", taken_at=NOW + HOUR / 120)), suspect(full("s1", taken_at=NOW))]
    found = kept(with_suspects)
    assert found.pop("s0").startswith("suspect: rows 12")
    assert found.pop("s1").startswith("suspect: rows 12")
    assert found == expected
    assert "newest" in found["f0"]


def test_a_suspect_keeps_what_it_rests_on() -> None:
    """It could not be looked at otherwise."""
    *points, last = chain(3)
    found = kept([*points, suspect(last), *fulls(0)], NOTHING)
    assert found["a2"] == "needed by a3"


def test_a_damaged_point_fills_no_slot_and_goes_once_a_newer_one_is_proven() -> None:
    """The older one of its day has the slot; until something newer is proven, nothing damaged goes."""
    older, broken, newer = full("a0", taken_at=NOW - 3 * HOUR), full("b0", taken_at=NOW - HOUR), full("c0")
    points = [older, damaged(broken), newer]
    assert kept(points)["b0"] == "damaged: pack 1f3c is missing; nothing newer is proven"
    assert lost([older, damaged(broken), proven(newer)]) == {
        "b0": "damaged: pack 1f3c is missing; c0 is newer and proven",
        "a0": "its day has c0, its week has c0, its month has c0",
    }
    assert kept([older, damaged(broken)])["a0"].startswith("daily 2026-11-23")
    assert kept([replace(older, taken_at=NOW), proven(damaged(broken))])["b0"].endswith("nothing newer is proven")


def test_what_rests_on_a_damaged_point_fills_no_slot_either() -> None:
    """It is not restorable, whatever its own state says."""
    points = chain(2)
    points[1] = damaged(points[1])
    assert kept(points)["a2"] == "rests on a1, which is damaged; nothing newer is proven"
    assert "newest" in kept(points)["a0"]
    assert set(lost([*points, proven(full("c0", taken_at=NOW + HOUR / 120))], NOTHING)) == {"a0", "a1", "a2"}


def test_a_damaged_point_is_not_the_newest_proven() -> None:
    """The proof of what is broken now is worth nothing: the one before it stays."""
    points = [proven(one) for one in fulls(300, 200)]
    found = kept([points[0], damaged(points[1]), *fulls(0)], NOTHING)
    assert found["f300"] == "newest proven full"


def test_points_from_the_future_stay_and_take_no_slot() -> None:
    """A clock that ran ahead evicts nothing, and neither does one that is behind."""
    points = fulls(*range(9))
    ahead = [full("z0", taken_at=NOW + 400 * DAY), full("z1", taken_at=NOW + 800 * DAY)]
    found = kept([*points, *ahead])
    assert found.pop("z0").startswith("from the future")
    assert found.pop("z1").startswith("from the future")
    assert found == kept(points)
    behind = decide_retention(points, NOTHING, now=NOW - 2_000 * DAY)
    assert all(verdict.keep for verdict in behind)


def test_broken_lineage_stays_until_nothing_of_it_is_in_the_vault() -> None:
    """What looks broken may be so only for whoever could not read all; it goes when the vault has no trace of it."""
    points = [chain(2)[0], chain(2)[2], full("c0", taken_at=NOW + HOUR / 120)]
    fault = "a2 cannot be restored: a2 rests on a1, which is not in the vault"
    assert kept(points, NOTHING)["a2"] == fault
    assert kept(points, NOTHING, stored={"a0", "a1", "a2", "c0"})["a2"] == fault
    assert lost(points, NOTHING, stored={"a0", "a2", "c0"})["a2"] == f"{fault}; c0 is newer and whole"
    assert kept(points[:2], stored={"a0", "a2"})["a2"] == f"{fault}; nothing newer is whole"


def test_profiles_have_their_own_numbers() -> None:
    """Each is counted by itself; one that the settings do not know is kept whole."""
    points = [
        *nightly(30),
        *nightly(30, profile="weekly-only", first_id=100),
        *nightly(9, profile="gone", first_id=200),
    ]
    rules = {"default": RetentionOptions(), "weekly-only": RetentionOptions(daily=0, weekly=2, monthly=0)}
    found = kept(points, rules)
    assert sum("settings have no profile" in reason for reason in found.values()) == 10
    both = {point.id for point in points if point.profile == "weekly-only"} & set(found)
    assert sorted(both) == [f"{number:012x}" for number in (129, 130)]


def test_a_second_vault_has_its_own_numbers() -> None:
    """The same points under other rules."""
    points = nightly(60)
    second = kept(points, {"default": RetentionOptions(daily=1, weekly=1, monthly=3)})
    assert set(second) < set(kept(points))


def test_deletions_leave_no_orphan_on_the_way() -> None:
    """Whoever is interrupted between two of them has deleted children first."""
    points = [*hourly(4), *fulls(*range(2))]
    doomed = deletions(decide_retention(points, NOTHING, now=NOW))
    left = {point.id: point for point in points}
    assert len(doomed) > 50
    for point_id in doomed:
        del left[point_id]
        assert all(point.parent_id is None or point.parent_id in left for point in left.values())


@pytest.mark.parametrize(
    ("points", "doomed", "reason"),
    [
        (chain(2), {"a1"}, "a1 may not be deleted: a2 rests on it"),
        (chain(2), {"a0", "a1"}, "a1 may not be deleted: a2 rests on it"),
        ([replace(full("a0"), is_held=True)], {"a0"}, "a0 may not be deleted: it is held"),
        ([proven(full("a0"))], {"a0"}, "a0 may not be deleted: it is the newest proven full of the profile default"),
        (chain(2), {"a2"}, None),
        (chain(2), {"a0", "a1", "a2"}, None),
        ([proven(full("a0", taken_at=NOW - DAY)), proven(full("b0"))], {"a0"}, None),
        ([replace(proven(full("a0")), state=PointState.DAMAGED)], {"a0"}, None),
    ],
)
def test_a_deletion_by_hand_is_refused_with_the_reason(
    points: list[RestorePoint], doomed: set[str], reason: str | None
) -> None:
    """Nothing that a kept point rests on, that is held, or that is the last proof."""
    assert why_not_delete(points, doomed) == reason


def test_unsafe_verdicts_are_refused() -> None:
    """Whatever decided so: nothing is deleted that a kept point rests on."""
    root, child = chain(1)
    safe = [Verdict(point=root, keep=True, reason="needed"), Verdict(point=child, keep=False, reason="old")]
    ensure_safe(safe)
    with pytest.raises(UnsafeRetentionError, match="a0 may not be deleted: a1 rests on it"):
        ensure_safe([replace(verdict, keep=not verdict.keep) for verdict in safe])


def test_what_was_decided_is_looked_at_once_more() -> None:
    """Two points of one name, of which the lineage knows one and the list the other: nothing goes, and it is told."""
    old, newer = full("a0", taken_at=NOW - 3 * DAY), proven(full("b0"))
    alone = full("a1", taken_at=NOW - DAY)
    on_old = replace(delta(old, "a1"), taken_at=alone.taken_at)
    with pytest.raises(UnsafeRetentionError, match="a0 may not be deleted: a1 rests on it"):
        decide_retention([old, alone, on_old, newer], NOTHING, now=NOW)


def test_nothing_in_nothing_out() -> None:
    """An empty vault has nothing to keep."""
    assert decide_retention([], RULES, now=NOW) == []
