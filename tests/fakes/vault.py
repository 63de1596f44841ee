"""A plain vault: directories of files in a directory, neither encrypted nor shared, with the promises of a real one."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.backups.vaults import (
    Snapshot,
    Stored,
    Tags,
    VaultDamagedError,
    VaultMissingError,
    VaultPasswordError,
    VaultSize,
)
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tasks.backups.staging import Progress
    from tasks.backups.vaults import VaultPlace

_CHUNK_BYTES = 1024 * 1024


class DirectoryVault:
    """Keeps `snapshots/<id>/` and, written last, `snapshots/<id>.json`: what has no JSON is not stored.

    Damage is for tests to do: the files lie there as they are, and `check` and `get` compare their hashes.
    """

    def __init__(self, place: VaultPlace) -> None:
        self.place = place
        self._root = Path(place.location)

    def engine(self) -> str:
        return "directory 1.0"

    def prepare(self) -> None:
        if not self._root.exists() or not any(self._root.iterdir()):
            (self._root / "snapshots").mkdir(parents=True)
            (self._root / "password").write_text(self._password_hash())
        self._open()
        for remains in self._snapshots.iterdir():
            if remains.is_dir() and not remains.with_suffix(".json").exists():
                shutil.rmtree(remains)

    def put(self, directory: Path, *, tags: Tags, sizes: Mapping[str, int], progress: Progress) -> Stored:
        self._open()
        if not sizes or any(_size_of(directory / name) != size for name, size in sizes.items()):
            msg = "what was to be stored is not in the stage as it was written"
            raise TransientError(msg)
        snapshot = self._add(directory, tags, datetime.now(UTC), progress)
        if self.sizes(snapshot.id) != dict(sizes):
            self._remove(snapshot.id)
            msg = "the stage held more than was said"
            raise VaultDamagedError(msg)
        return Stored(snapshot=snapshot, added_bytes=sum(sizes.values()))

    def list(self) -> Sequence[Snapshot]:
        self._open()
        found = [self._read_snapshot(path) for path in self._snapshots.glob("*.json")]
        ours = [one for one, crew in found if self.place.crew in {None, crew}]
        return sorted(ours, key=lambda one: (one.stored_at, one.id))

    def sizes(self, snapshot_id: str) -> Mapping[str, int]:
        return {name: found["size"] for name, found in self._files(snapshot_id).items()}

    def read(self, snapshot_id: str, name: str) -> bytes:
        self._check_file(snapshot_id, name, self._files(snapshot_id).get(name))
        return (self._snapshots / snapshot_id / name).read_bytes()

    def get(self, snapshot_id: str, names: Collection[str], to: Path, *, progress: Progress) -> None:
        files = self._files(snapshot_id)
        to.mkdir(mode=0o700, parents=True)
        try:
            self._write(snapshot_id, {name: files.get(name) for name in names}, to, progress)
        except BaseException:
            shutil.rmtree(to)
            raise

    def check(self, *, read: tuple[int, int] | None = None, progress: Progress) -> None:
        """Read everything in any slice: there is too little here to be read in parts."""
        for snapshot in self.list():
            progress("check", 0)
            for name, found in self._files(snapshot.id).items():
                path = self._snapshots / snapshot.id / name
                if read is not None or _size_of(path) != found["size"]:
                    self._check_file(snapshot.id, name, found)

    def users_of(self, pieces: Collection[str], *, progress: Progress) -> Collection[str]:
        """Nothing is shared here: a piece is a snapshot."""
        progress("locate", 0)
        return {one.id for one in self.list()}.intersection(pieces)

    def forget(self, snapshot_ids: Collection[str], *, progress: Progress) -> None:
        self._open()
        if self.place.is_append_only:
            msg = f"vault {self.place.name} refuses deletions: its retention belongs to another machine"
            raise PermanentError(msg)
        for snapshot_id in {one.id for one in self.list()}.intersection(snapshot_ids):
            progress("forget", 0)
            self._remove(snapshot_id)

    def copy_to(self, other: VaultPlace, snapshot_ids: Collection[str], *, progress: Progress) -> Mapping[str, str]:
        target = DirectoryVault(other)
        target.prepare()
        there = {(one.tags.run, one.stored_at): one.id for one in target.list()}
        here = {one.id: one for one in self.list()}
        if missing := set(snapshot_ids) - here.keys():
            msg = f"the vault has no snapshot {', '.join(sorted(one[:8] for one in missing))} to copy"
            raise VaultDamagedError(msg)
        copies: dict[str, str] = {}
        for one in (here[snapshot_id] for snapshot_id in snapshot_ids):
            known = there.get((one.tags.run, one.stored_at))
            source = self._snapshots / one.id
            copies[one.id] = known or target._add(source, one.tags, one.stored_at, progress).id
        return copies

    def size(self) -> VaultSize:
        self._open()
        stored = sum(path.stat().st_size for path in self._root.rglob("*") if path.is_file())
        return VaultSize(stored_bytes=stored, free_bytes=shutil.disk_usage(self._root).free)

    @property
    def _snapshots(self) -> Path:
        return self._root / "snapshots"

    def _open(self) -> None:
        if not self._snapshots.is_dir():
            msg = f"there is no vault at {self.place.location}"
            raise VaultMissingError(msg)
        if (self._root / "password").read_text() != self._password_hash():
            msg = f"the password of vault {self.place.name} is another one"
            raise VaultPasswordError(msg)

    def _password_hash(self) -> str:
        return hashlib.sha256(self.place.password_file.read_bytes()).hexdigest()

    def _add(self, directory: Path, tags: Tags, stored_at: datetime, progress: Progress) -> Snapshot:
        snapshot = Snapshot(id=secrets.token_hex(32), tags=tags, stored_at=stored_at)
        to = self._snapshots / snapshot.id
        sources = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        total = sum(path.stat().st_size for path in sources)
        done = 0
        try:
            for path in sources:
                for chunk in _copied(path, to / path.relative_to(directory)):
                    done += chunk
                    progress("store", done, total)
        except BaseException:
            shutil.rmtree(to, ignore_errors=True)
            raise
        files = {path.relative_to(directory).as_posix(): _described(path) for path in sources}
        head = {"tags": asdict(tags), "stored_at": stored_at.isoformat(), "files": files, "crew": self.place.crew}
        to.with_suffix(".new").write_text(json.dumps(head))
        to.with_suffix(".new").replace(to.with_suffix(".json"))
        return snapshot

    def _read_snapshot(self, path: Path) -> tuple[Snapshot, str | None]:
        head = json.loads(path.read_text())
        stored_at = datetime.fromisoformat(head["stored_at"])
        return Snapshot(id=path.stem, tags=Tags(**head["tags"]), stored_at=stored_at), head["crew"]

    def _files(self, snapshot_id: str) -> dict[str, dict[str, Any]]:
        self._open()
        path = self._snapshots / f"{snapshot_id}.json"
        if not path.exists():
            msg = f"the vault has no snapshot {snapshot_id[:8]}"
            raise VaultDamagedError(msg)
        files: dict[str, dict[str, Any]] = json.loads(path.read_text())["files"]
        return files

    def _write(
        self, snapshot_id: str, files: Mapping[str, dict[str, Any] | None], to: Path, progress: Progress
    ) -> None:
        done = 0
        for name, found in files.items():
            self._check_file(snapshot_id, name, found)
            for chunk in _copied(self._snapshots / snapshot_id / name, to / name):
                done += chunk
                progress("fetch", done)

    def _check_file(self, snapshot_id: str, name: str, found: dict[str, Any] | None) -> None:
        path = self._snapshots / snapshot_id / name
        if found is None or not path.is_file() or _described(path) != found:
            msg = f"{name} of snapshot {snapshot_id[:8]} is not there as it was stored"
            raise VaultDamagedError(msg, pieces=[snapshot_id])

    def _remove(self, snapshot_id: str) -> None:
        (self._snapshots / f"{snapshot_id}.json").unlink(missing_ok=True)
        shutil.rmtree(self._snapshots / snapshot_id, ignore_errors=True)


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _copied(source: Path, to: Path) -> Iterator[int]:
    """Copy a file, and give the bytes of each chunk when it is written."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, to.open("wb") as written:
        while chunk := read.read(_CHUNK_BYTES):
            written.write(chunk)
            yield len(chunk)
