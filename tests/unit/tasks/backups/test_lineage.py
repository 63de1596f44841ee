"""What rests on what, from the points alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tasks.backups.lineage import BrokenLineageError, Lineage, place_in, place_of
from tasks.backups.manifest import Manifest
from tests.unit.tasks.backups.histories import NOW, chain, delta, full


def ids(points: Any) -> list[str]:
    return [point.id for point in points]


def test_a_point_needs_its_full_and_all_deltas_before_it() -> None:
    """The path begins with the full and ends with the point."""
    assert ids(Lineage(chain(3)).path_to("a3")) == ["a0", "a1", "a2", "a3"]
    assert ids(Lineage(chain(3)).path_to("a0")) == ["a0"]


def test_a_differential_needs_its_full_alone() -> None:
    """Two differentials of one full do not need each other."""
    root = full("a0")
    points = [root, delta(root, "a1", "differential"), delta(root, "a2", "differential")]
    assert ids(Lineage(points).path_to("a2")) == ["a0", "a2"]


def test_a_fork_is_two_paths() -> None:
    """Two children of one parent, left by a lost lease, are both whole and each needs only its own side."""
    points = chain(2)
    points += [delta(points[1], "b2"), delta(delta(points[1], "b2"), "b3")]
    lineage = Lineage(points)
    assert ids(lineage.path_to("b3")) == ["a0", "a1", "b2", "b3"]
    assert [ids(path) for path in lineage.chains()] == [["a0", "a1", "a2"], ["a0", "a1", "b2", "b3"]]
    assert lineage.broken() == {}


def test_everything_that_rests_on_a_point_is_found() -> None:
    """Children come before grandchildren, on both sides of a fork; the point itself is not among them."""
    points = chain(3)
    points.append(delta(points[1], "b2"))
    assert ids(Lineage(points).needed_by("a1")) == ["a2", "b2", "a3"]
    assert Lineage(points).needed_by("a3") == ()


def test_the_order_of_the_points_does_not_matter() -> None:
    """Any order gives the same answers."""
    points = [*chain(5), full("c0")]
    points.append(delta(points[2], "b3"))
    expected = Lineage(points)
    for seed in range(20):
        shuffled = Lineage(random.Random(seed).sample(points, len(points)))
        assert shuffled.chains() == expected.chains()
        assert ids(shuffled.needed_by("a0")) == ids(expected.needed_by("a0"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"a1": None}, "a2 rests on a1, which is not in the vault"),
        ({"a1": {"parent_id": "a3"}}, "rests on itself"),
        ({"a2": {"profile": "other"}}, "a3 is of the profile default, its parent a2 is of other"),
        ({"a2": {"chain": "b0"}}, "a3 is of the chain a0, its parent a2 is of b0"),
        ({"a2": {"sequence": 5}}, "a3 has the sequence 3, its parent a2 has 5"),
        ({"a3": {"kind": "differential"}}, "a3 is a differential, its parent a2 is an incremental"),
        ({"a1": {"parent_id": None}}, "a1 is an incremental without a parent"),
        ({"a0": {"parent_id": "b9"}}, "a0 is a full and names b9 as its parent"),
        ({"a0": {"sequence": 1}, "a1": {"sequence": 2}, "a2": {"sequence": 3}, "a3": {"sequence": 4}}, "instead of 0"),
        (
            {"a0": {"chain": "b"}, "a1": {"chain": "b"}, "a2": {"chain": "b"}, "a3": {"chain": "b"}},
            "a0 is a full and names b as its chain",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, dict[str, Any] | None], reason: str) -> None:
    """A parent that is missing or of something else, a circle, a gap: the reason says which, and where."""
    points = [
        replace(point, **(changes.get(point.id) or {})) for point in chain(3) if changes.get(point.id, {}) is not None
    ]
    lineage = Lineage(points)
    with pytest.raises(BrokenLineageError, match=reason):
        lineage.path_to("a3")
    assert reason in lineage.broken()["a3"]
    assert "a3" not in {point.id for path in lineage.chains() for point in path}


def test_a_missing_link_is_named() -> None:
    """Whoever asks what is missing is told the one point that is not there, not those that rest on it."""
    points = [point for point in chain(3) if point.id != "a1"]
    assert Lineage(points).missing_for("a3") == "a1"
    assert Lineage(points).missing_for("zz") == "zz"
    assert Lineage(chain(3)).missing_for("a3") is None


def test_an_unknown_point_has_no_path() -> None:
    """Asking for what is not there is an error of its own."""
    with pytest.raises(BrokenLineageError, match="zz cannot be restored: it is not in the vault"):
        Lineage(chain(1)).path_to("zz")


def test_the_same_point_twice_is_no_fault() -> None:
    """A point that was stored by two attempts is one point."""
    assert Lineage([*chain(2), *chain(2)]).broken() == {}
    assert ids(Lineage([*chain(2), *chain(2)]).needed_by("a0")) == ["a1", "a2"]


def test_two_different_points_of_one_name_are_broken() -> None:
    """Nobody can tell which of them a delta was made against."""
    points = chain(2)
    other = replace(points[1], parent_id="b0", chain="b0")
    for order in ([*points, other], [other, *points]):
        assert set(Lineage(order).broken()) == {"a1", "a2"}
        assert ids(Lineage(order).needed_by("b0")) == ["a1", "a2"]


def test_a_manifest_says_the_same_as_its_point() -> None:
    """The lineage of a vault is rebuilt from manifests alone."""
    parent = full("0123456789ab")
    point = delta(parent, "ba9876543210")
    manifest = Manifest(
        point=point.id,
        run="run",
        profile=point.profile,
        kind=point.kind,
        chain=point.chain,
        sequence=point.sequence,
        parent=point.parent_id,
        reason="asked for",
        taken_at=NOW,
        began_at=NOW,
        tools={},
        members=(),
        size_bytes=0,
    )
    assert place_in(manifest) == place_of(point)
    assert ids(Lineage([place_of(parent), place_in(manifest)]).path_to(point.id)) == [parent.id, point.id]


def test_long_chains_are_walked_without_recursion() -> None:
    """A chain that nobody capped does not overflow anything."""
    assert len(Lineage(chain(3_000)).path_to("a3000")) == 3_001
