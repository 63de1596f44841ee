"""What holds of every retention, whatever the points are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.choosing import restorable
from tasks.backups.lineage import Lineage
from tasks.backups.points import KINDS, PointState
from tasks.backups.retention import decide_retention, deletions
from tasks.runtime import RetentionOptions
from tests.unit.tasks.backups.histories import NOW, delta, full

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.points import Kind, RestorePoint

PROFILES = ("default", "weekly")
COUNTS = st.integers(0, 5)
RULES = st.fixed_dictionaries(
    dict.fromkeys(PROFILES, st.builds(RetentionOptions, daily=COUNTS, weekly=COUNTS, monthly=COUNTS))
)


@st.composite
def histories(draw: st.DrawFn) -> list[RestorePoint]:
    """Draw points of any state and age: chains, forks, holds, proofs, future ones, and lineages that do not fit."""
    points: list[RestorePoint] = []
    for number in range(draw(st.integers(0, 14))):
        point = _drawn_point(draw, f"{number:02x}", points)
        if draw(st.booleans()):
            point = replace(point, proven_at=point.finished_at)
        if draw(st.integers(0, 19)) == 0:
            point = replace(point, parent_id="ff", kind="incremental")
        points.append(point)
    return draw(st.permutations(points))


def _drawn_point(draw: st.DrawFn, point_id: str, points: list[RestorePoint]) -> RestorePoint:
    facts: dict[str, Any] = {
        "taken_at": NOW - draw(st.timedeltas(timedelta(days=-3), timedelta(days=90))),
        "state": draw(st.sampled_from([PointState.STORED] * 4 + [PointState.SUSPECT, PointState.DAMAGED])),
        "is_held": draw(st.integers(0, 9)) == 0,
    }
    parents = [*points, None]
    parent = draw(st.sampled_from(parents))
    if parent is None:
        return full(point_id, profile=draw(st.sampled_from(PROFILES)), **facts)
    kinds: list[Kind] = ["incremental", "differential"] if parent.kind == "full" else ["incremental"]
    kind = draw(st.sampled_from(kinds))
    return delta(parent, point_id, kind, **facts)


def kept(points: Sequence[RestorePoint], rules: dict[str, RetentionOptions], **facts: Any) -> set[str]:
    return {verdict.point.id for verdict in decide_retention(points, rules, now=NOW, **facts) if verdict.keep}


@given(histories(), RULES)
def test_no_kept_point_loses_what_it_rests_on(points: list[RestorePoint], rules: dict[str, RetentionOptions]) -> None:
    """The parent of a kept point is kept if it is there, and what could be restored before can be after."""
    left = kept(points, rules)
    here = {point.id for point in points}
    assert all(point.parent_id in left for point in points if point.id in left and point.parent_id in here)
    after = {point.id for point in restorable([point for point in points if point.id in left])}
    assert after == {point.id for point in restorable(points)} & left


@given(histories(), RULES)
def test_the_newest_and_the_newest_proven_of_each_kind_stay(
    points: list[RestorePoint], rules: dict[str, RetentionOptions]
) -> None:
    """In every profile, among what can be restored."""
    left = kept(points, rules)
    for profile in PROFILES:
        whole = [point for point in restorable(points) if point.profile == profile]
        assert {point.id for point in whole[:1]} <= left
        for kind in KINDS:
            proofs = [point.id for point in whole if point.kind == kind and point.proven_at]
            assert set(proofs[:1]) <= left


@given(histories(), RULES)
def test_held_suspect_and_future_points_stay(points: list[RestorePoint], rules: dict[str, RetentionOptions]) -> None:
    """Nobody but an operator lets them go."""
    left = kept(points, rules)
    for point in points:
        is_ahead = point.taken_at > NOW + timedelta(minutes=1)
        if point.is_held or is_ahead or point.state is PointState.SUSPECT:
            assert point.id in left


@given(histories(), RULES, st.booleans())
def test_deleting_is_idempotent(
    points: list[RestorePoint],
    rules: dict[str, RetentionOptions],
    knows_vault: bool,  # noqa: FBT001  hypothesis gives it
) -> None:
    """What is left after the deletions is left whole by the next run."""
    stored = {point.id for point in points} if knows_vault else None
    left = kept(points, rules, stored=stored)
    rest = [point for point in points if point.id in left]
    assert kept(rest, rules, stored=None if stored is None else stored & left) == left


@given(histories(), RULES, RULES)
def test_keeping_fewer_never_keeps_more(
    points: list[RestorePoint], rules: dict[str, RetentionOptions], others: dict[str, RetentionOptions]
) -> None:
    """Smaller numbers keep a part of what larger ones keep."""
    fewer = {
        profile: RetentionOptions(
            daily=min(rule.daily, others[profile].daily),
            weekly=min(rule.weekly, others[profile].weekly),
            monthly=min(rule.monthly, others[profile].monthly),
        )
        for profile, rule in rules.items()
    }
    assert kept(points, fewer) <= kept(points, rules)


@given(histories(), RULES, st.randoms())
def test_the_order_of_the_points_does_not_matter(
    points: list[RestorePoint], rules: dict[str, RetentionOptions], random: Any
) -> None:
    """The same verdicts, word for word, in the same order; and the same deletions."""
    shuffled = random.sample(points, len(points))
    verdicts = decide_retention(points, rules, now=NOW)
    assert decide_retention(shuffled, rules, now=NOW) == verdicts
    assert deletions(decide_retention(shuffled, rules, now=NOW)) == deletions(verdicts)


@given(histories(), RULES)
def test_suspects_evict_nothing(points: list[RestorePoint], rules: dict[str, RetentionOptions]) -> None:
    """What is kept without the suspect points that no other one rests on is kept with them."""
    lineage = Lineage(points)
    suspects = {point.id for point in points if point.state is PointState.SUSPECT}
    ends = {point_id for point_id in suspects if {child.id for child in lineage.needed_by(point_id)} <= suspects}
    assert kept([point for point in points if point.id not in ends], rules) <= kept(points, rules)


@given(histories(), RULES)
def test_every_verdict_has_a_reason(points: list[RestorePoint], rules: dict[str, RetentionOptions]) -> None:
    """One for each point, the newest first."""
    verdicts = decide_retention(points, rules, now=NOW)
    assert sorted(verdict.point.id for verdict in verdicts) == sorted(point.id for point in points)
    assert all(verdict.reason for verdict in verdicts)
    moments = [verdict.point.taken_at for verdict in verdicts]
    assert moments == sorted(moments, reverse=True)
