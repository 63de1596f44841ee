"""Restoring: what is fetched, in which order things happen, and that nothing is left when it fails."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups.lineage import BrokenLineageError
from tasks.backups.manifest import FILE_NAME, ConfigFile, Manifest, Member, Redis
from tasks.backups.phases import Phases
from tasks.backups.restoring import PHASES, Restore, RestoreOrder
from tasks.backups.vaults import Tags, VaultUnreachableError
from tasks.errors import CancelledError, PermanentError, TransientError
from tests.fakes.backups import Clock, FakeAttempt, FakeManifests, expected_database
from tests.fakes.shelf import START, Journal, ShelfVault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.manifest import Part
    from tasks.backups.points import Kind
    from tasks.backups.staging import Link, Progress

FULL, CHILD, GRANDCHILD, OTHER = (f"{number:012x}" for number in range(1, 5))
PARTS: dict[Part, str] = {
    "database": "database/member",
    "redis": "redis/broker.rdb",
    "config": "config/crew.toml",
    "model": "model/model.pkl",
}


@dataclass
class PlainTarget:
    """A directory and the place that it gets."""

    to: Path
    partial: Path
    journal: Journal

    @property
    def fetched(self) -> Path:
        return self.partial / ".fetched"

    def check(self, directory: Path, member: Member, tick: Callable[[int], None]) -> None:
        self.journal.note(f"compare {directory.name}/{member.name}")
        tick(member.size_bytes)
        content = (directory / member.name).read_bytes()
        if hashlib.sha256(content).hexdigest() != member.sha256:
            msg = f"{member.name} is damaged"
            raise PermanentError(msg)

    def place(self, source: Path, name: str, *, mode: int) -> None:
        self.journal.note(f"place {name} {mode:o}")
        (self.partial / name).parent.mkdir(exist_ok=True)
        shutil.move(source, self.partial / name)

    def publish(self, report: Mapping[str, Any], manifest: Manifest) -> None:
        self.journal.note("publish")
        shutil.rmtree(self.fetched)
        (self.partial / "report").write_text(json.dumps([report, manifest.point]))
        self.partial.rename(self.to)


@dataclass
class PlainTargets:
    """Makes them, and remembers how much room was asked for."""

    journal: Journal
    needed_bytes: int = 0

    @contextmanager
    def opened(self, to: Path, *, needed_bytes: int) -> Iterator[PlainTarget]:
        self.needed_bytes = needed_bytes
        self.journal.note("open target")
        partial = to.with_name("partial")
        (partial / ".fetched").mkdir(parents=True)
        try:
            yield PlainTarget(to, partial, self.journal)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@dataclass
class Joiner:
    """Puts a database together by writing its links one after the other."""

    journal: Journal

    def needs(self, path: Sequence[Manifest]) -> Mapping[str, Collection[str]]:
        return {manifest.point: {"database/member"} for manifest in path}

    def assemble(self, links: Sequence[Link], to: Path, progress: Progress) -> Sequence[Path]:
        self.journal.note("assemble")
        progress("apply", 1, 2)
        to.mkdir()
        parts = [(link.directory / "database/member").read_bytes() for link in links]
        (to / "joined").write_bytes(b"+".join(parts))
        return [to / "joined"]

    def quarantine(self, link: Link, to: Path, progress: Progress) -> Sequence[Path]:
        self.journal.note("quarantine")
        progress("load", 1, 2)
        (to / "quarantine").mkdir()
        return [(link.directory / "redis/broker.rdb").rename(to / "quarantine" / "broker.rdb")]


@dataclass
class Scene:
    """A vault with a chain of three points and one of another chain, and somebody who restores of it."""

    directory: Path
    journal: Journal = field(default_factory=Journal)
    attempt: FakeAttempt = field(default_factory=FakeAttempt)

    def __post_init__(self) -> None:
        self.vault = ShelfVault(self.journal)
        self.targets = PlainTargets(self.journal)
        self.add(FULL, "full")
        self.add(CHILD, "incremental", parent=FULL)
        self.add(OTHER, "full", parts={"config": "config/crew.toml"})
        self.add(GRANDCHILD, "incremental", parent=CHILD)
        self.journal.entries.clear()

    @property
    def to(self) -> Path:
        return self.directory / "restored"

    def add(self, point: str, kind: Kind, parent: str | None = None, parts: dict[Part, str] | None = None) -> None:
        files = {name: f"{part} of {point}".encode() for part, name in (parts or PARTS).items()}
        manifest = manifest_of(point, kind, parent, files, parts or PARTS)
        tags = Tags(point=point, run=point, profile="default", kind=kind, chain=FULL, sequence=manifest.sequence)
        self.vault.add(tags, {**files, FILE_NAME: manifest.to_json()})

    def restore(self, point: str = GRANDCHILD, **order: Any) -> dict[str, Any]:
        restore = Restore(
            shelf=self.vault,
            manifests=FakeManifests(self.vault),
            assembler=Joiner(self.journal),
            targets=self.targets,
            clock=Clock(),
            phases=Phases(self.attempt, PHASES),
        )
        return restore.run(RestoreOrder(point=point, to=self.to, **order))

    def files(self) -> dict[str, str]:
        found = [path for path in self.to.rglob("*") if path.is_file() and path.name != "report"]
        return {str(path.relative_to(self.to)): path.read_text() for path in found}


def manifest_of(
    point: str, kind: Kind, parent: str | None, files: dict[str, bytes], parts: dict[Part, str]
) -> Manifest:
    members = [
        Member(name=name, part=part, size_bytes=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
        for part, name in parts.items()
    ]
    broker = Redis(name="broker", member="redis/broker.rdb", server_version="7", databases=(), digest="0" * 40)
    sequence = {None: 0, FULL: 1, CHILD: 2}[parent]
    return Manifest(
        point=point,
        run=point,
        profile="default",
        kind=kind,
        chain=FULL if parent else point,
        sequence=sequence,
        parent=parent,
        reason="",
        taken_at=START,
        began_at=START,
        tools={},
        members=tuple(members),
        database=expected_database(b"12345") if "database" in parts else None,
        redis=(broker,) if "redis" in parts else (),
        files=tuple(
            ConfigFile(member=parts[part], part=part, origin="/x", mode=0o4640)
            for part in ("config", "model")
            if part in parts
        ),
        size_bytes=1,
    )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_point_comes_back_with_all_its_parts(scene: Scene) -> None:
    """The database of the whole path, and of the last point everything else; the broker's data in quarantine."""
    report = scene.restore()
    assert scene.files() == {
        "database/joined": f"database of {FULL}+database of {CHILD}+database of {GRANDCHILD}",
        "quarantine/broker.rdb": f"redis of {GRANDCHILD}",
        "config/crew.toml": f"config of {GRANDCHILD}",
        "model/model.pkl": f"model of {GRANDCHILD}",
    }
    assert (report["path"], report["is_equal"]) == ([FULL, CHILD, GRANDCHILD], True)
    assert set(report["seconds"]) == {"find_point", "fetch", "compare_hashes", "put_together", "total"}
    assert report["restored"]["database"] == {"engine": "sqlite", "files": ["database/joined"]}
    assert report["restored"]["redis"] == ["quarantine/broker.rdb"]
    assert report["restored"]["config"] == [{"file": "config/crew.toml", "origin": "/x"}]


def test_every_hash_is_compared_before_anything_is_put_together(scene: Scene) -> None:
    """And publishing is the last of all."""
    scene.restore()
    [last_compare] = [i for i, one in enumerate(scene.journal.entries) if one.startswith("compare")][-1:]
    assert scene.journal.entries.index("assemble") > last_compare
    assert len([one for one in scene.journal.entries if one.startswith("compare")]) == 2 + 4
    assert scene.journal.entries[-1] == "publish"
    assert "place config/crew.toml 640" in scene.journal.entries, "a file never gets more than permissions"


def test_only_what_is_asked_for_is_fetched(scene: Scene) -> None:
    """A configuration file needs neither the chain nor the database."""
    report = scene.restore(only=frozenset({"config"}))
    assert scene.files() == {"config/crew.toml": f"config of {GRANDCHILD}"}
    assert (report["path"], scene.journal.entries.count("primary: get")) == ([GRANDCHILD], 1)


def test_room_is_asked_for_what_is_fetched_and_for_the_database(scene: Scene) -> None:
    """The members of the path lie beside the database that is put together from them."""
    scene.restore(only=frozenset({"database"}))
    assert scene.targets.needed_bytes == 3 * len(f"database of {FULL}") + 5


def test_a_part_that_the_point_does_not_have_is_named(scene: Scene) -> None:
    """Asked for by name it is an error; asked for with everything it is left out."""
    with pytest.raises(PermanentError, match="has no database and no redis: it has config"):
        scene.restore(OTHER, only=frozenset({"database", "redis", "config"}))
    scene.restore(OTHER)
    assert scene.files() == {"config/crew.toml": f"config of {OTHER}"}


def test_a_broken_chain_is_refused_before_anything_is_fetched(scene: Scene) -> None:
    """A parent that is not in the vault, and a point that is not."""
    gone = next(one for one in scene.vault.snapshots.values() if one.tags.point == CHILD)
    del scene.vault.snapshots[gone.id]
    with pytest.raises(BrokenLineageError, match=f"rests on {CHILD}, which is not in the vault"):
        scene.restore()
    with pytest.raises(BrokenLineageError, match="it is not in the vault"):
        scene.restore("f" * 12)
    assert "open target" not in scene.journal.entries


@pytest.mark.parametrize("damaged", ["database/member", "config/crew.toml", "redis/broker.rdb"])
def test_a_damaged_member_leaves_nothing(scene: Scene, damaged: str) -> None:
    """A byte that is not what was stored fails the restore, and there is no directory that somebody could trust."""
    newest = next(one for one in scene.vault.snapshots.values() if one.tags.point == GRANDCHILD)
    files = scene.vault.files[newest.id]
    files[damaged] = files[damaged][:-1] + b"?"
    with pytest.raises(PermanentError, match=f"{damaged} is damaged"):
        scene.restore()
    assert list(scene.directory.iterdir()) == []
    assert "assemble" not in scene.journal.entries


@pytest.mark.parametrize(
    "step", ["primary: list", "primary: read", "primary: get", "assemble", "quarantine", "publish"]
)
def test_a_failing_step_leaves_nothing(scene: Scene, step: str) -> None:
    """Whatever fails, the target does not come to be."""
    scene.journal.failures[step] = VaultUnreachableError("away")
    with pytest.raises(TransientError):
        scene.restore()
    assert list(scene.directory.iterdir()) == []


@pytest.mark.parametrize("reports", range(8))
def test_a_restore_can_be_called_off(scene: Scene, reports: int) -> None:
    """At every report, and nothing is left."""
    scene.attempt.cancels_after = reports
    with pytest.raises(CancelledError):
        scene.restore()
    assert list(scene.directory.iterdir()) == []
