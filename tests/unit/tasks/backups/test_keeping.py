"""Checking, pruning and copying vaults: what is written down when, and what a failure leaves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups import copying, pruning, verifying
from tasks.backups.copying import Copy, Side
from tasks.backups.manifest import FILE_NAME, Manifest, Member
from tasks.backups.phases import Phases
from tasks.backups.points import PointState
from tasks.backups.pruning import Prune
from tasks.backups.vaults import Tags, VaultDamagedError, VaultLockedError, VaultPlace
from tasks.backups.verifying import Verify
from tasks.errors import CancelledError, LeaseLostError, TransientError
from tasks.runtime import RetentionOptions
from tests.fakes.backups import Clock, FakeAttempt, FakeBook, FakeManifests, as_it_is
from tests.fakes.shelf import START, Journal, ShelfVault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.backups.vaults import Snapshot

KEEP_TWO = {"default": RetentionOptions(daily=2, weekly=0, monthly=0)}


def point_id(day: int) -> str:
    return f"{day:012x}"


@dataclass
class Scene:
    """A vault with a point of each day, a second one without any, and their tables."""

    journal: Journal = field(default_factory=Journal)
    attempt: FakeAttempt = field(default_factory=FakeAttempt)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.vault, self.second = ShelfVault(self.journal), ShelfVault(self.journal, place_of("second"))
        self.vault.others["second"] = self.second
        self.book, self.second_book = FakeBook(self.journal), FakeBook(self.journal)
        self.manifests = FakeManifests(self.vault)

    def add(self, day: int, *, parent: int | None = None) -> Snapshot:
        """Have a point of a day in the first vault, as a worker left it that was killed before it wrote it down."""
        kind = "full" if parent is None else "incremental"
        content = f"database of day {day}".encode()
        manifest = Manifest(
            point=point_id(day),
            run=f"run-{day}",
            profile="default",
            kind="full" if parent is None else "incremental",
            chain=point_id(day if parent is None else 1),
            sequence=0 if parent is None else parent,
            parent=None if parent is None else point_id(parent),
            reason="",
            taken_at=START + timedelta(days=day),
            began_at=START + timedelta(days=day),
            tools={},
            members=(Member(name="database/full", part="database", size_bytes=len(content), sha256="0" * 64),),
            size_bytes=len(content),
        )
        tags = Tags(
            point=manifest.point,
            run=manifest.run,
            profile="default",
            kind=kind,
            chain=manifest.chain,
            sequence=manifest.sequence,
        )
        self.clock.now = max(self.clock.now, manifest.taken_at)
        return self.vault.add(tags, {"database/full": content, FILE_NAME: manifest.to_json()})

    def verify(self, slices: int = 30, elsewhere: Mapping[str, str] | None = None) -> dict[str, Any]:
        return Verify(
            vault=self.vault,
            manifests=self.manifests,
            book=self.book,
            judge=as_it_is,
            clock=self.clock,
            phases=Phases(self.attempt, verifying.PHASES),
            elsewhere=lambda: elsewhere or {},
        ).run(slices)

    def prune(self, rules: dict[str, RetentionOptions] | None = None, *, dry_run: bool = False) -> dict[str, Any]:
        return Prune(
            vault=self.vault,
            manifests=self.manifests,
            book=self.book,
            judge=as_it_is,
            rules=KEEP_TWO if rules is None else rules,
            clock=self.clock,
            phases=Phases(self.attempt, pruning.PHASES),
        ).run(dry_run=dry_run)

    def copy(self, rules: dict[str, RetentionOptions] | None = None) -> dict[str, Any]:
        return Copy(
            first=Side(vault=self.vault, manifests=self.manifests),
            first_book=self.book,
            second=Side(vault=self.second, manifests=FakeManifests(self.second)),
            second_book=self.second_book,
            judge=as_it_is,
            rules=KEEP_TWO if rules is None else rules,
            clock=self.clock,
            phases=Phases(self.attempt, copying.PHASES),
        ).run()

    def days(self, vault: ShelfVault | None = None) -> list[int]:
        return sorted(int(one.tags.point, 16) for one in (vault or self.vault).snapshots.values())

    def rows(self) -> list[int]:
        return sorted(int(name, 16) for name in self.book.rows)


def place_of(name: str, *, is_append_only: bool = False) -> VaultPlace:
    return VaultPlace(
        name=name, location=f"/{name}", password_file=Path(f"/{name}-password"), is_append_only=is_append_only
    )


@pytest.fixture
def scene() -> Scene:
    return Scene()


class TestVerify:
    """Checking a vault."""

    def test_slices_are_read_in_turn(self, scene: Scene) -> None:
        """The next run reads the next slice, and after the last comes the first; 0 reads none."""
        read = []
        for _ in range(4):
            scene.clock.now += timedelta(days=1)
            read.append(scene.verify(3)["slice"])
        assert read == [1, 2, 3, 1]
        assert [entry for entry in scene.journal.entries if "check " in entry and "note" not in entry] == [
            "primary: check 1/3",
            "primary: check 2/3",
            "primary: check 3/3",
            "primary: check 1/3",
        ]
        assert scene.verify(0)["slice"] is None
        assert scene.book.found[-1].slice is None

    def test_damage_is_written_down_and_fails_the_job(self, scene: Scene) -> None:
        """Points that can be named are marked, and the error says what is hit and what to do."""
        whole, hit = scene.add(1), scene.add(2)
        scene.journal.failures["primary: check 1/30"] = VaultDamagedError(f"snapshot {hit.id}: pack is gone")
        with pytest.raises(VaultDamagedError, match=rf"Hit are at least {point_id(2)}\. Take a full backup"):
            scene.verify()
        assert scene.book.rows[point_id(2)].state is PointState.DAMAGED
        assert scene.book.rows[point_id(1)].state is PointState.STORED
        assert [(check.slice, check.is_sound) for check in scene.book.found] == [(1, False)]
        assert whole.id in scene.vault.snapshots

    def test_points_that_need_a_damaged_piece_are_named_with_where_else_they_are(self, scene: Scene) -> None:
        """Who is paged at night reads which points are lost here, and which of them another vault has."""
        for day in (1, 2, 3):
            scene.add(day)
        hit = [one.id for one in scene.vault.list() if one.tags.point in {point_id(1), point_id(3)}]
        scene.journal.failures["primary: check 1/30"] = VaultDamagedError("pack 1f3c is gone", pieces=hit)
        there = {point_id(3): "second", point_id(2): "second"}
        expected = rf"Hit are at least {point_id(3)} \(also in the vault second\), {point_id(1)}\. Take"
        with pytest.raises(VaultDamagedError, match=expected):
            scene.verify(elsewhere=there)
        assert [point for point, row in scene.book.rows.items() if row.state is PointState.STORED] == [point_id(2)]

    def test_a_point_whose_files_cannot_be_listed_is_hit(self, scene: Scene) -> None:
        """What the engine cannot even list it does not restore."""
        scene.add(1)
        scene.verify()
        scene.journal.failures |= {
            "primary: check 2/30": VaultDamagedError("index is gone"),
            "primary: sizes": VaultDamagedError("tree is gone"),
        }
        with pytest.raises(VaultDamagedError, match=point_id(1)):
            scene.verify()
        assert scene.book.rows[point_id(1)].state_reason == "index is gone"

    def test_a_vault_that_is_away_is_not_found_damaged(self, scene: Scene) -> None:
        """Nothing is concluded from not having looked."""
        scene.add(1)
        scene.verify()
        scene.journal.failures["primary: check 2/30"] = VaultLockedError("in use")
        with pytest.raises(TransientError):
            scene.verify()
        assert len(scene.book.found) == 1
        assert scene.book.rows[point_id(1)].state is PointState.STORED


class TestPrune:
    """Pruning a vault."""

    def test_what_the_retention_lets_go_is_deleted(self, scene: Scene) -> None:
        """From the list first and from the vault after it, each with its reason."""
        for day in range(1, 5):
            scene.add(day)
        result = scene.prune()
        assert (scene.rows(), scene.days()) == ([3, 4], [3, 4])
        assert result["deleted"] == [point_id(1), point_id(2)]
        assert scene.manifests.kept == [point_id(3), point_id(4)]
        assert {one["point"]: one["keep"] for one in result["verdicts"]} == {
            point_id(day): day > 2 for day in range(1, 5)
        }
        assert all(one["reason"] for one in result["verdicts"])
        assert scene.journal.entries.index("delete rows") < scene.journal.entries.index("primary: forget")

    def test_a_dry_run_deletes_nothing(self, scene: Scene) -> None:
        """It says the same, and leaves everything."""
        for day in range(1, 5):
            scene.add(day)
        dry = scene.prune(dry_run=True)
        assert (scene.rows(), scene.days(), dry["deleted"]) == ([1, 2, 3, 4], [1, 2, 3, 4], [])
        assert dry["verdicts"] == scene.prune()["verdicts"]

    def test_a_kept_point_keeps_what_it_rests_on(self, scene: Scene) -> None:
        """The full of a kept increment stays, however old it is."""
        scene.add(1)
        scene.add(2, parent=1)
        scene.add(3, parent=2)
        scene.prune({"default": RetentionOptions(daily=1, weekly=0, monthly=0)})
        assert scene.days() == [1, 2, 3]

    def test_a_lost_lease_deletes_nothing(self, scene: Scene) -> None:
        """The rows cannot be deleted by who does not hold the run, and so the vault is not asked."""
        for day in range(1, 5):
            scene.add(day)
        scene.prune(dry_run=True)
        scene.book.is_lost = True
        with pytest.raises(LeaseLostError):
            scene.prune()
        assert (scene.rows(), scene.days()) == ([1, 2, 3, 4], [1, 2, 3, 4])

    @pytest.mark.parametrize("end", [VaultLockedError("in use"), KeyboardInterrupt(), CancelledError("enough")])
    def test_an_end_between_rows_and_vault_is_made_up_for(self, scene: Scene, end: BaseException) -> None:
        """At no time a point is listed that is not there; the next run finds the rest and deletes it."""
        for day in range(1, 5):
            scene.add(day)
        scene.journal.failures["primary: forget"] = end
        with pytest.raises(type(end)):
            scene.prune()
        assert (scene.rows(), scene.days()) == ([3, 4], [1, 2, 3, 4])
        scene.journal.failures.clear()
        scene.prune()
        assert (scene.rows(), scene.days()) == ([3, 4], [3, 4])

    def test_an_append_only_vault_is_left_alone_and_that_is_said(self, scene: Scene) -> None:
        """Its retention belongs to the machine that keeps it: no failure, and no row that goes before its point."""
        for day in range(1, 5):
            scene.add(day)
        scene.vault.place = place_of("second", is_append_only=True)
        result = scene.prune()
        assert (scene.rows(), scene.days(), result["deleted"]) == ([1, 2, 3, 4], [1, 2, 3, 4], [])
        assert "refuses deletions" in result["note"]

    def test_a_second_snapshot_of_a_point_goes(self, scene: Scene) -> None:
        """What a worker stored after it lost its lease is deleted; what cannot be read is not."""
        mine = scene.add(1)
        scene.prune()
        twin = scene.vault.add(mine.tags, dict(scene.vault.files[mine.id]))
        foreign = scene.vault.add(replace(mine.tags, point="f" * 12, run="another"), {FILE_NAME: b"newer"})
        result = scene.prune()
        assert set(scene.vault.snapshots) == {mine.id, foreign.id}
        assert twin.id not in scene.vault.snapshots
        assert list(result["unreadable"]) == [foreign.id]


class TestCopy:
    """Copying to a second vault."""

    def test_what_is_lacking_is_copied_parents_first(self, scene: Scene) -> None:
        """And written down once its files have their sizes there; a second run has nothing to do."""
        scene.add(1)
        scene.add(2, parent=1)
        scene.add(3, parent=2)
        result = scene.copy()
        assert (result["copied"], scene.days(scene.second)) == ([point_id(1), point_id(2), point_id(3)], [1, 2, 3])
        assert set(scene.second_book.copies) == {point_id(1), point_id(2), point_id(3)}
        assert scene.copy()["copied"] == []

    def test_what_the_second_vault_would_delete_is_not_copied(self, scene: Scene) -> None:
        """Or its pruning would take away each day what each day brings back."""
        for day in range(1, 5):
            scene.add(day)
        assert scene.copy()["copied"] == [point_id(3), point_id(4)]

    def test_a_damaged_point_and_what_rests_on_it_are_not_copied(self, scene: Scene) -> None:
        """They would restore there no more than here."""
        scene.add(1)
        scene.add(2, parent=1)
        scene.add(3)
        scene.prune(dry_run=True)
        scene.book.mark_damaged(point_id(1), "pack is gone")
        assert scene.copy()["copied"] == [point_id(3)]

    def test_a_copy_of_another_size_is_refused(self, scene: Scene) -> None:
        """A copy counts when it was listed with every file at its size."""
        snapshot = scene.add(1)
        spoiled = {**scene.vault.files[snapshot.id], "database/full": b"short"}

        def spoil(entry: str) -> None:
            if entry == "second: sizes":
                scene.second.files = dict.fromkeys(scene.second.files, spoiled)

        scene.journal.before = spoil
        with pytest.raises(VaultDamagedError, match=f"copy of {point_id(1)}"):
            scene.copy()
        assert scene.second_book.copies == {}

    @pytest.mark.parametrize("step", [f"note copy {point_id(2)}", "primary: copy"])
    def test_a_run_goes_on_behind_what_is_there(self, scene: Scene, step: str) -> None:
        """However a copy was interrupted, none is made twice."""
        for day in range(1, 3):
            scene.add(day)
        scene.journal.failures[step] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            scene.copy()
        scene.journal.failures.clear()
        scene.copy()
        assert scene.days(scene.second) == [1, 2]
        known = {*scene.second_book.copies, *scene.second_book.rows}
        assert known == {point_id(1), point_id(2)}
