"""Of what kind the next point is, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.forecast import MeasuredRestore, Workload, predict
from tasks.backups.lineage import Lineage
from tasks.backups.manifest import Database, Manifest
from tasks.backups.points import KINDS, PointState
from tasks.backups.promotion import Decision, Situation, Source, confirm, decide_kind
from tasks.runtime import BackupOptions, VaultOptions
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, damaged, delta, full, suspect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.points import Kind, RestorePoint

OPTIONS = BackupOptions(directory=Path(), vault=VaultOptions(location="", password_file=Path()))
GB = 1_000_000_000


def situation(points: Sequence[RestorePoint], *, missing: Sequence[str] = (), **options: Any) -> Situation:
    return Situation(
        profile="default",
        points=points,
        stored={point.id for point in points} - set(missing),
        options=replace(OPTIONS, **options),
        now=NOW,
    )


def decided(asked: Kind, points: Sequence[RestorePoint], **facts: Any) -> tuple[str, str | None, str]:
    decision = decide_kind(asked, situation(points, **facts))
    return decision.kind, decision.parent.id if decision.parent else None, decision.reason


def test_a_full_that_was_asked_for_is_a_full() -> None:
    """Nothing is looked at."""
    assert decided("full", chain(2)) == ("full", None, "asked for")


def test_a_delta_is_made_against_the_newest_point() -> None:
    """It goes on the chain of the newest point."""
    decision = decide_kind("incremental", situation(chain(2)))
    assert decided("incremental", chain(2)) == ("incremental", "a2", "asked for; against a2")
    assert (decision.sequence, decision.chain("new"), decision.warning) == (3, "a0", "")


def test_a_differential_is_made_against_the_full_of_the_newest_point() -> None:
    """However many points there are since, it is the first step of the chain."""
    decision = decide_kind("differential", situation(chain(2)))
    assert decided("differential", chain(2)) == ("differential", "a0", "asked for; against a0")
    assert (decision.sequence, decision.chain("new")) == (1, "a0")


def test_a_full_begins_a_chain_of_its_own() -> None:
    """Its chain has its own name."""
    decision = decide_kind("full", situation(chain(2)))
    assert (decision.sequence, decision.chain("new")) == (0, "new")


@pytest.mark.parametrize(
    ("points", "facts", "reason"),
    [
        ([], {}, "there is no point of this profile yet"),
        ([full("b0", profile="other")], {}, "there is no point of this profile yet"),
        ([full("a0", taken_at=NOW + DAY)], {}, "all points of this profile are from the future"),
        ([*chain(2)[:2], damaged(chain(2)[2])], {}, "the newest point a2 is damaged: pack 1f3c is missing"),
        ([damaged(chain(2)[0]), *chain(2)[1:]], {}, "a0, which a2 rests on, is damaged: pack 1f3c is missing"),
        ([*chain(2)[:2], suspect(chain(2)[2])], {}, "the newest point a2 is suspect: rows 12"),
        (chain(2), {"missing": ["a2"]}, "the newest point a2 is not in the vault"),
        (chain(2), {"missing": ["a0"]}, "a0, which a2 rests on, is not in the vault"),
        ([chain(2)[0], chain(2)[2]], {}, "a2 rests on a1, which is not in the vault"),
        (chain(24), {}, "the chain of a0 has 24 deltas, and may have 24"),
        (chain(2), {"most_links": 0}, "the chain of a0 has 2 deltas, and may have 0"),
        (chain(3, staged_bytes=7_000_000), {}, "deltas take 21 MB beside the 40 MB of the full a0, and may take 50%"),
        (chain(20, size_bytes=4 * GB), {}, "a restore would take 17 min 53 s, over the target of 15 min 0 s"),
    ],
)
def test_a_doubt_makes_a_full(points: list[RestorePoint], facts: dict[str, Any], reason: str) -> None:
    """Wherever a delta would not be safe, or not worth it, the point is a full and says why."""
    decision = decide_kind("incremental", situation(points, **facts))
    assert (decision.kind, decision.parent) == ("full", None)
    assert re.search(reason, decision.reason)


def test_the_limits_themselves_are_allowed() -> None:
    """23 deltas may be followed by one more, and deltas may take exactly half of the full."""
    assert decided("incremental", chain(23))[0] == "incremental"
    assert decided("incremental", chain(2, staged_bytes=10_000_000))[0] == "incremental"
    assert decided("incremental", chain(2, staged_bytes=10_000_001))[0] == "full"


def test_only_the_database_makes_a_chain_large() -> None:
    """Redis is whole in each point: it would be the same beside a new full."""
    assert decided("incremental", chain(3, staged_bytes=900_000_000, database_bytes=5_000_000))[0] == "incremental"
    assert decided("incremental", chain(3, staged_bytes=900_000_000, database_bytes=7_000_000))[0] == "full"
    root = full("a0", taken_at=NOW - HOUR, staged_bytes=900_000_000, database_bytes=1_000_000)
    reason = decided("incremental", [root, delta(root, "a1", database_bytes=600_000)])[2]
    assert reason == "deltas take 600 kB beside the 1 MB of the full a0, and may take 50% of it"


def test_a_differential_counts_the_largest_one_so_far() -> None:
    """Differentials do not add up: the last one alone is restored."""
    root = full("a0", taken_at=NOW - DAY)
    small = [delta(root, f"a{number}", "differential", staged_bytes=15_000_000) for number in range(1, 9)]
    assert decided("differential", [root, *small])[0] == "differential"
    large = delta(root, "a9", "differential", staged_bytes=21_000_000)
    assert decided("differential", [root, *small, large])[2].startswith("deltas take 21 MB beside the 40 MB")


def test_a_point_from_the_future_is_no_parent() -> None:
    """A point of a clock that ran ahead would be the newest for years, and each further delta be against it."""
    points = chain(1)
    ahead = delta(points[-1], "a9", taken_at=NOW + 400 * DAY)
    assert decided("incremental", [*points, ahead])[1] == "a1"


def test_other_profiles_are_no_parents() -> None:
    """A delta stays within its profile."""
    assert decided("incremental", [*chain(1), full("b0", profile="other", taken_at=NOW + HOUR)])[1] == "a1"


def test_a_suspect_point_makes_one_full_and_not_one_each_time() -> None:
    """The full that follows confirms the size; from then on deltas go on, until an operator has looked."""
    *points, last = chain(2)
    points.append(suspect(replace(last, taken_at=NOW - HOUR * 0.9)))
    assert decided("incremental", points)[0] == "full"
    confirmed = suspect(full("b0", taken_at=NOW - HOUR / 2))
    points.append(confirmed)
    assert decided("incremental", points)[:2] == ("incremental", "b0")
    points.append(suspect(delta(confirmed, "b1", taken_at=NOW - HOUR / 4)))
    assert decided("incremental", points)[:2] == ("incremental", "b1")


def test_a_suspect_full_alone_confirms_nothing() -> None:
    """A weekly full that is the first to be small is followed by another full."""
    points = [*chain(2), suspect(full("b0", taken_at=NOW))]
    assert decided("incremental", points)[0] == "full"
    assert decided("incremental", [suspect(full("b0"))])[0] == "full"


def test_where_a_full_would_not_help_there_is_a_warning_instead() -> None:
    """A database that takes longer than the target by itself is not taken whole each time."""
    decision = decide_kind("incremental", situation(chain(2, size_bytes=500 * GB)))
    assert decision.kind == "incremental"
    assert decision.warning.startswith("even a restore of a full would take 8 h")
    assert decision.warning.endswith("over the target of 15 min 0 s (rates of a series on a loaded machine)")


def test_measured_restores_decide_about_the_time() -> None:
    """The same chain passes where restores were measured to be fast, and does not where they were slow."""
    points = chain(10, size_bytes=2 * GB)
    work = Workload(size_bytes=2 * GB, deltas=10)
    for factor, kind in ((0.1, "incremental"), (3.0, "full")):
        measured = [MeasuredRestore(work=work, seconds=predict(work).seconds * factor)] * 5
        assert decide_kind("incremental", replace(situation(points), measured=measured)).kind == kind


@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from(["fine", "damaged", "suspect", "unlisted", "gone"]), min_size=1, max_size=6),
    st.timedeltas(timedelta(seconds=1), timedelta(days=1)),
)
def test_it_never_fails_open(asked: Kind, fates: list[str], target: timedelta) -> None:
    """Whatever is decided, a parent is in the vault, undamaged, and so is all that it rests on."""
    points = [point for point, fate in zip(chain(len(fates) - 1), fates, strict=True) if fate != "gone"]
    fate_of = {f"a{number}": fate for number, fate in enumerate(fates)}
    points = [replace(point, state=_STATES.get(fate_of[point.id], PointState.STORED)) for point in points]
    unlisted = [point_id for point_id, fate in fate_of.items() if fate in {"unlisted", "gone"}]
    decision = decide_kind(asked, situation(points, missing=unlisted, target_rto=target))
    assert decision.reason
    assert (decision.parent is None) == (decision.kind == "full")
    if decision.parent is not None:
        path = Lineage(points).path_to(decision.parent.id)
        assert all(fate_of[point.id] in {"fine", "suspect"} for point in path)
        assert decision.kind == asked


_STATES = {"damaged": PointState.DAMAGED, "suspect": PointState.SUSPECT}
POINT_ID = "0123456789ab"
PARENT = full(POINT_ID)
CHOSEN = Decision(kind="incremental", parent=PARENT, reason="asked for", warning="slow")
SQLITE = Source(engine="sqlite", server_version="3.40.1")
CLUSTER = Source(engine="postgresql", server_version="18.6", identity={"system_identifier": "71", "timeline": 1})


def manifest(database: Database | None, **values: Any) -> Manifest:
    facts = {
        "point": POINT_ID,
        "run": "run",
        "profile": "default",
        "kind": "full",
        "chain": POINT_ID,
        "sequence": 0,
        "parent": None,
        "reason": "asked for",
        "taken_at": NOW,
        "began_at": NOW,
        "tools": {},
        "members": (),
        "database": database,
        "size_bytes": 0,
        **values,
    }
    return Manifest.model_validate(facts)


def database(engine: Any = "sqlite", version: str = "3.40.1", **details: Any) -> Database:
    return Database(
        engine=engine,
        server_version=version,
        method="copy",
        schema_sha256="0" * 64,
        migration_head=None,
        tables=(),
        details=details,
    )


@pytest.mark.parametrize(
    ("parent", "source"),
    [
        (manifest(database()), SQLITE),
        (manifest(database(version="3.46.0")), SQLITE),
        (manifest(None), None),
        (manifest(database("postgresql", "18.1", system_identifier="71", timeline=1)), CLUSTER),
    ],
)
def test_the_same_database_is_confirmed(parent: Manifest, source: Source | None) -> None:
    """The decision stands as it was."""
    assert confirm(CHOSEN, parent, source) == CHOSEN


@pytest.mark.parametrize(
    ("parent", "source", "reason"),
    [
        (manifest(database(), profile="other"), SQLITE, "the manifest of 0123456789ab says something else"),
        (manifest(database(), point="ba9876543210"), SQLITE, "the manifest of 0123456789ab says something else"),
        (manifest(database(), sequence=3), SQLITE, "the manifest of 0123456789ab says something else"),
        (manifest(None), SQLITE, "has no database, and this profile takes one"),
        (manifest(database()), None, "has a database, and this profile takes none"),
        (manifest(database()), CLUSTER, "is of sqlite, the database is postgresql"),
        (
            manifest(database("postgresql", "17.9", system_identifier="71", timeline=1)),
            CLUSTER,
            "is of PostgreSQL 17.9, the server is 18.6",
        ),
        (
            manifest(database("postgresql", "18.6", system_identifier="72", timeline=1)),
            CLUSTER,
            "is of another database: its system_identifier is 72, and now it is 71",
        ),
        (
            manifest(database("postgresql", "18.6", timeline=1)),
            CLUSTER,
            "is of another database: its system_identifier is None, and now it is 71",
        ),
    ],
)
def test_another_database_makes_a_full(parent: Manifest, source: Source | None, reason: str) -> None:
    """A delta is never made against the manifest of something else, or of an unknown one."""
    decision = confirm(CHOSEN, parent, source)
    assert (decision.kind, decision.parent, decision.warning) == ("full", None, "slow")
    assert reason in decision.reason


def test_a_full_needs_no_confirmation() -> None:
    """Nobody looks at a parent that is not there."""
    decision = Decision(kind="full", parent=None, reason="asked for")
    assert confirm(decision, manifest(None), SQLITE) is decision
