"""Ways of backing a database up: copying it, compressing it, restic by itself, and ours into restic."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import zstandard

from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.staging import Limits, Link, ParentPoint, Stage
from tasks.backups.store.captures.sqlite import capture_sqlite
from tasks.backups.store.captures.sqlite_reading import find_differences, read_contents
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.backups.store.restic import ResticVault
from tasks.backups.vaults import Tags, VaultPlace
from tests.benchmarks.measuring import WrongCountError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tasks.backups.staging import DatabaseCapture

_POLITE: Final = 10
_READ_CHUNK_BYTES: Final = 1024 * 1024


def copy_file(source: Path, to: Path) -> None:
    """Copy it, in the system's way."""
    subprocess.run(["cp", source, to], check=True)  # noqa: S607  coreutils


def compress_file(source: Path, to: Path) -> None:
    """Compress it with one thread at level 3, as `zstd -3` does."""
    with source.open("rb", buffering=0) as plain, to.open("wb") as compressed:
        zstandard.ZstdCompressor(level=3).copy_stream(plain, compressed, read_size=_READ_CHUNK_BYTES)


class ResticAlone:
    """restic on the database file as it is, as most people use it; nobody may be writing to it meanwhile."""

    def __init__(self, directory: Path) -> None:
        """Make a repository in a new directory."""
        directory.mkdir()
        self.directory, self.repository = directory, directory / "repository"
        (directory / "password").write_text(secrets.token_hex(16))
        self._run("init", "--repository-version", "2")

    def fork(self, name: str) -> ResticAlone:
        """Give a copy that goes its own way: packs are never changed."""
        twin = object.__new__(ResticAlone)
        twin.directory = self.directory.with_name(f"{self.directory.name}-{name}")
        twin.repository = twin.directory / "repository"
        shutil.copytree(self.directory, twin.directory, copy_function=os.link)
        return twin

    def put(self, source: Path) -> None:
        """Back a file up, under the same name each time."""
        shown = self.directory.parent / "shown" / "live.db"
        shown.parent.mkdir(exist_ok=True)
        shown.unlink(missing_ok=True)
        os.link(source, shown)
        self._run("backup", str(shown))

    def _run(self, *arguments: str) -> None:
        opened = {
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_PASSWORD_FILE": str(self.directory / "password"),
            "RESTIC_CACHE_DIR": str(self.directory / "cache"),
            "PATH": os.environ["PATH"],
        }
        # Polite as ours is, so that a busy machine treats both alike.
        argv = ["nice", "-n", str(_POLITE), "restic", "--quiet", *arguments]
        subprocess.run(argv, check=True, env=opened, stdout=subprocess.DEVNULL)


class Ours:
    """The capture and the vault of the crew, with everything that they check."""

    def __init__(self, directory: Path) -> None:
        """Make a vault in a new directory."""
        directory.mkdir()
        self.directory, self.repository = directory, directory / "repository"
        (directory / "password").write_text(secrets.token_hex(16))
        (directory / "password").chmod(0o600)
        self._vault().prepare()

    def fork(self, name: str) -> Ours:
        """Give a copy that goes its own way."""
        twin = object.__new__(Ours)
        twin.directory = self.directory.with_name(f"{self.directory.name}-{name}")
        twin.repository = twin.directory / "repository"
        shutil.copytree(self.directory, twin.directory, copy_function=os.link)
        return twin

    def put(self, source: Path, parent: Link | None = None) -> Link:
        """Take a point and store it; give it with its stage, which a real backup would remove."""
        stage = self.directory.with_name(f"stage-{secrets.token_hex(4)}")
        stage.mkdir(mode=0o700)
        before = None if parent is None else ParentPoint(manifest=parent.manifest, fetch=parent.directory.joinpath)
        capture = capture_sqlite(source, Stage(directory=stage, progress=_silent), parent=before)
        link = Link(manifest=_manifest(capture, parent), directory=stage)
        (stage / FILE_NAME).write_bytes(link.manifest.to_json())
        self._vault().put(stage, tags=_tags(link.manifest), sizes=_sizes(stage), progress=_silent)
        return link

    def fetch(self, manifest: Manifest, names: Sequence[str], to: Path) -> None:
        """Get members of a point from the vault."""
        vault = self._vault()
        [snapshot] = [one for one in vault.list() if one.tags.point == manifest.point]
        vault.get(snapshot.id, names, to, progress=_silent)

    def _vault(self) -> ResticVault:
        place = VaultPlace(name="primary", location=str(self.repository), password_file=self.directory / "password")
        limits = Limits(nice=_POLITE, idle_io=False)
        return ResticVault(place, program="restic", cache=self.directory / "cache", limits=limits)


def check_restore(source: Path, *chain: Link, to: Path) -> None:
    """Restore a chain, and compare it with what the point expects and with the source, which nobody has changed.

    Raises:
        WrongCountError: something differs.
    """
    restore_sqlite(chain, to, progress=_silent)
    point = chain[-1].manifest
    assert point.database is not None
    now = read_contents(source, until=point.taken_at, is_whole=True, progress=_silent)
    restored = read_contents(to, until=point.taken_at, is_whole=True, progress=_silent)
    differences = find_differences(to, point.database, taken_at=point.taken_at, progress=_silent)
    if differences or now.tables != restored.tables:
        msg = f"the restored database is not the source: {'; '.join(differences)}"
        raise WrongCountError(msg)
    to.unlink()


def _silent(phase: str, done: int, total: int | None = None) -> None:
    """Show nothing."""


def _manifest(capture: DatabaseCapture, parent: Link | None) -> Manifest:
    point = secrets.token_hex(6)
    return Manifest(
        point=point,
        run=point,
        profile="default",
        kind="incremental" if capture.is_delta else "full",
        chain=point if parent is None else parent.manifest.chain,
        sequence=0 if parent is None else 1,
        parent=None if parent is None else parent.manifest.point,
        reason="benchmark",
        taken_at=capture.taken_at,
        began_at=datetime.now(UTC),
        tools=capture.tools,
        members=tuple(capture.members),
        database=capture.expected,
        is_unchanged=capture.is_unchanged,
        size_bytes=capture.expected.file_bytes or 0,
    )


def _tags(manifest: Manifest) -> Tags:
    return Tags(
        point=manifest.point,
        run=manifest.run,
        profile=manifest.profile,
        kind=manifest.kind,
        chain=manifest.chain,
        sequence=manifest.sequence,
    )


def _sizes(stage: Path) -> Mapping[str, int]:
    return {str(file.relative_to(stage)): file.stat().st_size for file in stage.rglob("*") if file.is_file()}
