"""The directories of backups on a real disk: stages, caches, and targets of restores."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tasks.backups.backup import Found
from tasks.backups.manifest import FILE_NAME, Manifest, Member, UnreadableManifestError
from tasks.backups.staging import Stage
from tasks.backups.store.addresses import address_of
from tasks.backups.store.cached import ManifestCache, MemberCache
from tasks.backups.store.hashing import DamagedMemberError
from tasks.backups.store.stages import StageDirectories
from tasks.backups.store.targets import RestoreTargets, TargetExistsError
from tasks.backups.vaults import Tags
from tasks.errors import PermanentError, TransientError
from tests.fakes.shelf import START, ShelfVault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.redis import RedisServer

CONTENT = b"page hashes"
NAME = "database/pages"


def manifest_of(point: str, profile: str = "default") -> Manifest:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return Manifest(
        point=point,
        run=point,
        profile=profile,
        kind="full",
        chain=point,
        sequence=0,
        parent=None,
        reason="",
        taken_at=START,
        began_at=START,
        tools={},
        members=(Member(name=NAME, part="database", size_bytes=len(CONTENT), sha256=sha256),),
        size_bytes=1,
    )


POINT = "0123456789ab"
MANIFEST = manifest_of(POINT)


def ignore(phase: str, done: int, total: int | None = None) -> None:
    """Hear of progress, and go on."""


def put_members(stage: Path) -> None:
    (stage / "database").mkdir()
    (stage / NAME).write_bytes(CONTENT)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestStages:
    """Where backups are put together."""

    def test_a_stage_is_private_and_gone_after_its_block(self, tmp_path: Path) -> None:
        """Whether it ends well or not."""
        stages = StageDirectories(tmp_path / "staging")
        with stages.opened("run.1") as stage:
            put_members(stage)
            assert (mode_of(stage), mode_of(stage.parent)) == (0o700, 0o700)
        with pytest.raises(ZeroDivisionError), stages.opened("run.1") as stage:
            raise ZeroDivisionError
        with stages.opened("run.1"):
            stages.clear()  # as the attempt does that took the run over
        assert list((tmp_path / "staging").iterdir()) == []

    def test_leftovers_of_dead_runs_go(self, tmp_path: Path) -> None:
        """Also a link that somebody has put there, and never what it points to."""
        (tmp_path / "precious").mkdir()
        dead = tmp_path / "staging" / "dead.1"
        dead.mkdir(parents=True)
        put_members(dead)
        (tmp_path / "staging" / "link").symlink_to(tmp_path / "precious")
        StageDirectories(tmp_path / "staging").clear()
        assert list((tmp_path / "staging").iterdir()) == []
        assert (tmp_path / "precious").is_dir()

    def test_a_sealed_stage_has_its_members_and_nothing_else(self, tmp_path: Path) -> None:
        """What a capture left by mistake, or did not write whole, never gets into a vault."""
        stages = StageDirectories(tmp_path / "staging")
        with stages.opened("run.1") as stage:
            put_members(stage)
            sizes = stages.seal(stage, MANIFEST)
            assert sizes == {NAME: len(CONTENT), FILE_NAME: (stage / FILE_NAME).stat().st_size}
            assert Manifest.from_json((stage / FILE_NAME).read_bytes()) == MANIFEST
            (stage / "database" / "copy").write_bytes(b"plain")
            with pytest.raises(PermanentError, match="database/copy"):
                stages.seal(stage, MANIFEST)
            (stage / "database" / "copy").unlink()
            (stage / NAME).write_bytes(b"short")
            with pytest.raises(PermanentError, match=NAME):
                stages.seal(stage, MANIFEST)

    def test_a_full_disk_says_what_to_do(self, tmp_path: Path) -> None:
        """It may have room later; a directory that is closed to us will not open by itself."""
        stages = StageDirectories(tmp_path / "staging")
        with pytest.raises(TransientError, match=r"is full .* left"), stages.opened("run.1"):
            raise OSError(28, "No space left on device")
        with pytest.raises(PermanentError, match="chown -R"), stages.opened("run.1"):
            raise PermissionError(13, "Permission denied", str(tmp_path))


@dataclass
class Shelf:
    """A vault with one point, and the caches before it."""

    directory: Path
    vault: ShelfVault = field(default_factory=ShelfVault)

    def __post_init__(self) -> None:
        tags = Tags(point=POINT, run=POINT, profile="default", kind="full", chain=POINT, sequence=0)
        self.snapshot = self.vault.add(tags, {NAME: CONTENT, FILE_NAME: MANIFEST.to_json()})
        self.manifests = ManifestCache(self.directory / "manifests", self.vault)
        self.members = MemberCache(self.directory / "pages", self.vault, lambda _: [NAME])

    def fetch(self) -> Path:
        stage = self.directory / "staging" / "run.1"
        stage.mkdir(parents=True, exist_ok=True)
        found = Found(manifest=MANIFEST, snapshot_id=self.snapshot.id)
        return self.members.fetcher(found, Stage(directory=stage, progress=ignore))(NAME)

    def asked(self) -> Sequence[str]:
        asked = [entry.removeprefix("primary: ") for entry in self.vault.journal.entries]
        self.vault.journal.entries.clear()
        return asked


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


class TestCaches:
    """What is kept of a vault on this machine."""

    def test_a_manifest_is_asked_for_once(self, shelf: Shelf) -> None:
        """And again when the file was lost or spoiled."""
        assert [shelf.manifests.read(shelf.snapshot) for _ in range(3)] == [MANIFEST] * 3
        assert shelf.asked() == ["read"]
        [path] = (shelf.directory / "manifests").iterdir()
        path.write_bytes(b"spoiled")
        assert shelf.manifests.read(shelf.snapshot) == MANIFEST
        assert shelf.asked() == ["read"]
        shelf.manifests.keep_only([])
        assert not path.exists()

    def test_what_is_no_manifest_is_not_kept(self, shelf: Shelf) -> None:
        """Perhaps a newer release of ours can read it."""
        shelf.vault.files[shelf.snapshot.id][FILE_NAME] = b"{}"
        with pytest.raises(UnreadableManifestError):
            shelf.manifests.read(shelf.snapshot)
        assert not (shelf.directory / "manifests").exists()

    def test_a_member_is_fetched_once_and_checked_each_time(self, shelf: Shelf) -> None:
        """A spoiled copy is fetched again; one that is spoiled in the vault is refused."""
        assert [shelf.fetch().read_bytes() for _ in range(2)] == [CONTENT] * 2
        assert shelf.asked() == ["get"]
        shelf.fetch().write_bytes(CONTENT[::-1])
        assert shelf.fetch().read_bytes() == CONTENT
        assert shelf.asked() == ["get"]
        shelf.fetch().unlink()
        shelf.vault.files[shelf.snapshot.id][NAME] = CONTENT[::-1]
        with pytest.raises(DamagedMemberError, match="not the content"):
            shelf.fetch()

    def test_the_next_delta_needs_no_vault(self, shelf: Shelf) -> None:
        """A new point leaves what its children need; what no child needs goes."""
        stage = shelf.directory / "staging" / "run.2"
        stage.mkdir(parents=True)
        put_members(stage)
        old = shelf.directory / "pages" / ("f" * 12)
        old.mkdir(parents=True)
        shelf.members.keep(MANIFEST, stage, [])
        assert shelf.fetch().read_bytes() == CONTENT
        assert (shelf.asked(), old.exists()) == ([], False)


class TestTargets:
    """Where restores go."""

    def test_a_target_comes_to_be_in_one_moment(self, tmp_path: Path) -> None:
        """Before that there is nothing of its name; after it there is nothing else."""
        to = tmp_path / "new" / "restored"
        with RestoreTargets().opened(to, needed_bytes=1) as target:
            (target.fetched / "file").write_bytes(b"x")
            target.place(target.fetched / "file", "config/file", mode=0o640)
            assert (mode_of(target.partial), to.exists()) == (0o700, False)
            target.publish({"point": POINT}, MANIFEST)
        assert [path.name for path in to.parent.iterdir()] == ["restored"]
        assert {path.name for path in to.iterdir()} == {"config", "restore.json", FILE_NAME}
        assert (mode_of(to), mode_of(to / "config" / "file")) == (0o700, 0o640)
        assert json.loads((to / "restore.json").read_text()) == {"point": POINT}

    def test_nothing_is_left_of_a_failure(self, tmp_path: Path) -> None:
        """And nothing that is there already is touched, whenever it came."""
        to = tmp_path / "restored"
        with pytest.raises(ZeroDivisionError), RestoreTargets().opened(to, needed_bytes=1):
            raise ZeroDivisionError
        assert list(tmp_path.iterdir()) == []
        with RestoreTargets().opened(to, needed_bytes=1) as target:
            to.mkdir()
            with pytest.raises(TargetExistsError, match="is there already"):
                target.publish({}, MANIFEST)
        assert [path.name for path in tmp_path.iterdir()] == ["restored"]
        with pytest.raises(TargetExistsError), RestoreTargets().opened(to, needed_bytes=1):
            pytest.fail("it is there")

    def test_room_is_looked_for_first(self, tmp_path: Path) -> None:
        """A restore that cannot end is not begun."""
        with (
            pytest.raises(TransientError, match="make room"),
            RestoreTargets().opened(tmp_path / "x", needed_bytes=1 << 60),
        ):
            pytest.fail("there is no such disk")
        assert list(tmp_path.iterdir()) == []


def test_the_address_of_a_client_leads_to_its_server(redis_server: RedisServer) -> None:
    """So that the tools that need an address reach what the process is connected to."""
    client = redis_server.client()
    assert address_of(client) == redis_server.url
