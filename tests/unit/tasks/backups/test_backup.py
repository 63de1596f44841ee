"""One run of a backup: what it does in which order, and what is left when it does not come to its end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.backups.backup import PHASES, Backup, Order
from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.phases import Phases
from tasks.backups.points import Kind, PointState, RestorePoint
from tasks.backups.vaults import Tags, VaultDamagedError, VaultUnreachableError
from tasks.errors import CancelledError, LeaseLostError, PermanentError, TransientError
from tasks.runtime import BackupOptions, VaultOptions
from tests.fakes.backups import (
    Clock,
    FakeAttempt,
    FakeBook,
    FakeManifests,
    FakeMembers,
    FakeSources,
    FakeStages,
    as_it_is,
)
from tests.fakes.shelf import Journal, ShelfVault

OPTIONS = BackupOptions(directory=Path("/b"), vault=VaultOptions(location="/v", password_file=Path("/p")))


@dataclass
class Crew:
    """A crew that backs up to a vault in memory."""

    directory: Path
    journal: Journal = field(default_factory=Journal)
    attempt: FakeAttempt = field(default_factory=FakeAttempt)
    judge: Any = as_it_is

    def __post_init__(self) -> None:
        self.vault = ShelfVault(journal=self.journal)
        self.book = FakeBook(self.journal)
        self.sources = FakeSources(self.journal)
        self.clock = Clock()

    def take(self, number: int, kind: Kind = "full", **order: Any) -> dict[str, Any]:
        """Take a point as run number so and so, and leave the journal with what that did."""
        self.journal.entries.clear()
        fields = {"fence": 1, "profile": "default", "parts": frozenset({"database", "redis", "config"})}
        return self.backup().take(Order(run_id=run_id(number), kind=kind, **{**fields, **order}))

    def backup(self) -> Backup:
        stages = FakeStages(self.journal, self.directory / "staging")
        return Backup(
            vault=self.vault,
            manifests=FakeManifests(self.vault),
            book=self.book,
            sources=self.sources,
            stages=stages,
            members=FakeMembers(self.journal, self.vault, self.directory / "members"),
            judge=self.judge,
            options=OPTIONS,
            clock=self.clock,
            phases=Phases(self.attempt, PHASES),
            tools={"nightcrew": "0.1.0"},
        )

    def manifest(self, number: int) -> Manifest:
        [snapshot] = [one for one in self.vault.snapshots.values() if one.tags.run == run_id(number)]
        return Manifest.from_json(self.vault.files[snapshot.id][FILE_NAME])

    def stages(self) -> list[str]:
        staging = self.directory / "staging"
        return [path.name for path in staging.iterdir()] if staging.is_dir() else []


def run_id(number: int) -> str:
    return f"01931f2e-5f6a-7abc-8def-{number:012x}"


def point_id(number: int) -> str:
    return f"{number:012x}"


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    return Crew(tmp_path)


def test_effects_come_in_the_order_that_makes_every_end_harmless(crew: Crew) -> None:
    """The vault has the point before anybody writes it down, and the outcome is the last of all."""
    crew.take(1)
    assert crew.journal.entries == [
        "clear stages",
        "primary: prepare",
        "primary: list",
        "open stage",
        "capture database",
        "capture redis",
        "capture config",
        "primary: put",
        "keep members",
        "remove stage",
        "primary: check",
        "note check",
        "primary: size",
        "record",
    ]


def test_a_point_says_what_it_is(crew: Crew) -> None:
    """Row, manifest, tags and result agree."""
    result = crew.take(1)
    [point], [snapshot], manifest = crew.book.rows.values(), crew.vault.snapshots.values(), crew.manifest(1)
    assert (point.id, point.chain, point.sequence, point.parent_id) == (point_id(1), point_id(1), 0, None)
    assert (point.snapshot_id, point.rows, point.size_bytes) == (snapshot.id, 1_000, 4_000 + 9 + 6)
    assert snapshot.tags == Tags(
        point=point_id(1), run=run_id(1), profile="default", kind="full", chain=point_id(1), sequence=0
    )
    assert [member.name for member in manifest.members] == [
        "config/file",
        "database/full",
        "database/pages",
        "redis/broker.rdb",
    ]
    assert manifest.tools == {"nightcrew": "0.1.0", "sqlite": "3.40.1"}
    assert (result["point"], result["kind"], result["reason"]) == (point_id(1), "full", "asked for")
    assert crew.book.results == [json.loads(json.dumps(result))]
    assert set(result["seconds"]) >= {"capture database", "store", "check vault"}


def test_a_delta_rests_on_the_newest_point(crew: Crew) -> None:
    """Each increment names the one before it; a differential names the full."""
    crew.take(1)
    crew.sources.text += b"two\n"
    crew.take(2, "incremental")
    assert f"capture delta on {point_id(1)}" in crew.journal.entries
    crew.take(3, "incremental")
    crew.take(4, "differential")
    places = {number: crew.book.rows[point_id(number)] for number in range(1, 5)}
    assert [(one.kind, one.parent_id, one.sequence, one.chain) for one in places.values()] == [
        ("full", None, 0, point_id(1)),
        ("incremental", point_id(1), 1, point_id(1)),
        ("incremental", point_id(2), 2, point_id(1)),
        ("differential", point_id(1), 1, point_id(1)),
    ]


def test_no_change_is_a_point_as_well(crew: Crew) -> None:
    """That the crew looked, and found the same, is recorded."""
    crew.take(1)
    result = crew.take(2, "incremental")
    assert result["is_unchanged"]
    assert crew.book.rows[point_id(2)].is_unchanged


def test_a_capture_may_take_all_although_a_delta_was_asked_for(crew: Crew) -> None:
    """The point is then a full in every respect, and says why."""
    crew.take(1)
    crew.sources.promotes_because = "the page size has changed"
    result = crew.take(2, "incremental")
    manifest = crew.manifest(2)
    assert (manifest.kind, manifest.parent, manifest.chain, manifest.sequence) == ("full", None, point_id(2), 0)
    assert (result["asked"], result["kind"], result["reason"]) == ("incremental", "full", "the page size has changed")


def test_a_vanished_parent_makes_a_full(crew: Crew) -> None:
    """What somebody took out of the vault is marked and told, and nothing rests on it any more."""
    crew.take(1)
    crew.vault.snapshots.clear()
    result = crew.take(2, "incremental")
    assert crew.book.rows[point_id(1)].state is PointState.DAMAGED
    assert (result["kind"], result["vault"]) == ("full", {"vanished": [point_id(1)]})


def test_a_point_that_comes_back_is_no_longer_damaged(crew: Crew) -> None:
    """A disk that was not mounted looks like a vault that has lost everything."""
    crew.take(1)
    away = dict(crew.vault.snapshots)
    crew.vault.snapshots.clear()
    crew.take(2)
    crew.vault.snapshots |= away
    crew.take(3)
    assert {point.state for point in crew.book.rows.values()} == {PointState.STORED}


def test_a_vault_that_was_moved_to_another_keeps_its_points(crew: Crew) -> None:
    """A rotation by a new vault and a copy gives every snapshot another name; the chain goes on."""
    crew.take(1)
    [before] = crew.vault.snapshots.values()
    del crew.vault.snapshots[before.id]
    copy = crew.vault.add(before.tags, crew.vault.files.pop(before.id))
    result = crew.take(2, "incremental")
    assert crew.book.rows[point_id(1)].snapshot_id == copy.id
    assert (result["kind"], result["chain"]) == ("incremental", point_id(1))


def test_a_parent_whose_manifest_is_lost_makes_a_full(crew: Crew) -> None:
    """A delta is never made against what cannot be read."""
    crew.take(1)
    [snapshot] = crew.vault.snapshots
    crew.vault.files[snapshot][FILE_NAME] = b"{}"
    assert crew.take(2, "incremental")["kind"] == "full"


def test_profiles_do_not_rest_on_each_other(crew: Crew) -> None:
    """A point of one profile is never the parent of one of another; one without a database is always a full."""
    crew.take(1)
    other = crew.take(2, "incremental", profile="other")
    small = crew.take(3, "incremental", profile="small", parts=frozenset({"config"}))
    assert (other["kind"], other["reason"]) == ("full", "there is no point of this profile yet")
    assert (small["kind"], small["reason"], small["rows"]) == ("full", "the profile takes no database", None)
    assert not [entry for entry in crew.journal.entries if entry.startswith("capture database")]


def test_a_profile_without_parts_or_sources_fails_with_what_to_do(crew: Crew) -> None:
    """Nothing is never stored as if it were something."""
    with pytest.raises(PermanentError, match=r"name at least one part for it in backups\.profiles"):
        crew.take(1, parts=frozenset())
    with pytest.raises(PermanentError, match="every source that it names is empty"):
        crew.take(2, parts=frozenset({"other"}))
    assert crew.vault.snapshots == {}


FAILURES = [
    "clear stages",
    "primary: prepare",
    "primary: list",
    "open stage",
    "capture database",
    "capture redis",
    "capture config",
    "primary: put",
    "keep members",
    "primary: check",
    "primary: size",
    "record",
]


@pytest.mark.parametrize("step", FAILURES)
def test_a_failing_step_fails_the_run_and_leaves_no_half_point(crew: Crew, step: str) -> None:
    """The error passes as it is, the stage is gone, nothing is recorded, and the next attempt makes just one point."""
    crew.journal.failures[step] = VaultUnreachableError("away")
    with pytest.raises(TransientError, match="away"):
        crew.take(1)
    assert crew.stages() == []
    assert crew.book.results == []
    crew.journal.failures.clear()
    crew.take(1, fence=2)
    assert (len(crew.vault.snapshots), list(crew.book.rows), len(crew.book.results)) == (1, [point_id(1)], 1)


@pytest.mark.parametrize("reports", range(11))
def test_a_run_can_be_called_off_at_every_report(crew: Crew, reports: int) -> None:
    """Whoever is at work stops, and nothing of the attempt is recorded."""
    crew.attempt.cancels_after = reports
    with pytest.raises(CancelledError):
        crew.take(1)
    assert (crew.stages(), crew.book.results) == ([], [])


def test_a_lost_lease_records_nothing_and_the_next_attempt_adopts(crew: Crew) -> None:
    """The snapshot of the worker that lost its lease is the point of the next attempt: never doubled, never half."""
    crew.book.is_lost = True
    with pytest.raises(LeaseLostError):
        crew.take(1)
    assert (len(crew.vault.snapshots), crew.book.rows) == (1, {})
    crew.book.is_lost = False
    result = crew.take(1, fence=2)
    assert not [entry for entry in crew.journal.entries if entry.startswith(("capture", "open stage"))]
    assert (len(crew.vault.snapshots), result["point"]) == (1, point_id(1))
    assert "vault" not in result, "its own point is no surprise"


def test_a_point_of_a_killed_run_is_adopted_by_the_next_run(crew: Crew) -> None:
    """A run that nobody tries again has left a whole point, on which the next one rests."""
    crew.journal.failures["record"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        crew.take(1)
    crew.journal.failures.clear()
    crew.book.rows.clear()
    result = crew.take(2, "incremental")
    assert (result["kind"], result["vault"]) == ("incremental", {"adopted": [point_id(1)]})
    assert crew.book.rows[point_id(2)].parent_id == point_id(1)


def test_a_snapshot_that_is_not_whole_is_not_adopted(crew: Crew) -> None:
    """Missing bytes or an unreadable manifest are told; the attempt takes its point anew."""
    crew.book.is_lost = True
    with pytest.raises(LeaseLostError):
        crew.take(1)
    crew.book.is_lost = False
    [snapshot] = crew.vault.snapshots
    crew.vault.files[snapshot]["database/full"] = b"half"
    result = crew.take(1, fence=2)
    assert "capture database" in crew.journal.entries
    assert list(result["vault"]["unreadable"]) == [snapshot]
    assert crew.book.rows[point_id(1)].snapshot_id != snapshot


def test_a_damaged_vault_fails_the_run_and_is_written_down(crew: Crew) -> None:
    """A point in a vault that does not check clean is not recorded as one."""
    crew.journal.failures["primary: check"] = VaultDamagedError("pack is gone")
    with pytest.raises(VaultDamagedError):
        crew.take(1)
    assert [(check.is_sound, check.detail) for check in crew.book.found] == [(False, "pack is gone")]
    assert crew.book.rows == {}


def test_a_suspect_point_is_recorded_as_such(crew: Crew) -> None:
    """What the judge says of a new point, and of an adopted one, is in its row."""

    def suspicious(point: RestorePoint, before: object) -> RestorePoint:
        assert isinstance(before, list)
        return replace(point, state=PointState.SUSPECT, state_reason="small")

    crew.judge = suspicious
    result = crew.take(1)
    assert (result["state"], result["state_reason"]) == ("suspect", "small")
    crew.book.rows.clear()
    crew.take(2)
    assert {point.state for point in crew.book.rows.values()} == {PointState.SUSPECT}


def test_the_mirror_is_made_again_from_the_vault_alone(crew: Crew) -> None:
    """After the loss of the database every point is back as it was, with the lineage that its manifest tells."""
    crew.take(1)
    crew.take(2, "incremental")
    before = dict(crew.book.rows)
    crew.book.rows.clear()
    crew.take(3, "incremental")
    again = {name: replace(crew.book.rows[name], added_bytes=point.added_bytes) for name, point in before.items()}
    assert again == before
    assert crew.book.rows[point_id(3)].sequence == 2


def test_of_two_snapshots_of_a_point_the_later_one_counts(crew: Crew) -> None:
    """A worker that lost its lease while storing leaves one that nothing rests on."""
    crew.take(1)
    [mine] = crew.vault.snapshots.values()
    late = crew.vault.add(mine.tags, dict(crew.vault.files[mine.id]))
    crew.take(2, "incremental")
    assert crew.book.rows[point_id(1)].snapshot_id == mine.id, "what is written down stays"
    crew.book.rows.clear()
    crew.take(3, "incremental")
    assert crew.book.rows[point_id(1)].snapshot_id == late.id
