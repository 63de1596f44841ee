"""A vault in memory that can be told to fail, and says in which order it was asked for what."""

from __future__ import annotations

from collections.abc import Callable, Iterator  # noqa: TC003  fields
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.backups.vaults import Snapshot, Stored, Tags, VaultPlace, VaultSize

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tasks.backups.staging import Progress

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Journal:
    """What was done, in its order, and where it shall fail."""

    entries: list[str] = field(default_factory=list)
    failures: dict[str, BaseException] = field(default_factory=dict)
    """By entry: raised instead of doing it."""
    before: Callable[[str], None] = lambda _: None

    def note(self, entry: str) -> None:
        self.entries.append(entry)
        self.before(entry)
        if entry in self.failures:
            raise self.failures[entry]


@dataclass
class ShelfVault:
    """A vault: snapshots by id, each with its files."""

    journal: Journal = field(default_factory=Journal)
    place: VaultPlace = field(
        default_factory=lambda: VaultPlace(name="primary", location="/vault", password_file=Path("/password"))
    )
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    others: dict[str, ShelfVault] = field(default_factory=dict)
    """By name, the vaults that can be copied to."""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def prepare(self) -> None:
        self._note("prepare")

    def put(self, directory: Path, *, tags: Tags, sizes: Mapping[str, int], progress: Progress) -> Stored:
        self._note("put")
        files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        progress("put", 0, sum(sizes.values()))
        assert {name: len(content) for name, content in files.items()} == sizes
        return Stored(snapshot=self.add(tags, files), added_bytes=sum(sizes.values()) // 2)

    def add(self, tags: Tags, files: dict[str, bytes]) -> Snapshot:
        """Have a snapshot, as another process may have put it there."""
        number = next(self.numbers)
        snapshot = Snapshot(id=f"{number:064x}", tags=tags, stored_at=START + timedelta(minutes=number))
        self.snapshots[snapshot.id], self.files[snapshot.id] = snapshot, files
        return snapshot

    def list(self) -> Sequence[Snapshot]:
        self._note("list")
        return sorted(self.snapshots.values(), key=lambda snapshot: snapshot.stored_at)

    def sizes(self, snapshot_id: str) -> Mapping[str, int]:
        self._note("sizes")
        return {name: len(content) for name, content in self.files[snapshot_id].items()}

    def read(self, snapshot_id: str, name: str) -> bytes:
        self._note("read")
        return self.files[snapshot_id][name]

    def get(self, snapshot_id: str, names: Collection[str], to: Path, *, progress: Progress) -> None:
        self._note("get")
        for done, name in enumerate(sorted(names)):
            path = to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.files[snapshot_id][name])
            progress("get", done, len(names))

    def check(self, *, read: tuple[int, int] | None = None, progress: Progress) -> None:
        self._note("check" if read is None else f"check {read[0]}/{read[1]}")
        progress("check", 0)

    def users_of(self, pieces: Collection[str], *, progress: Progress) -> Collection[str]:
        del progress
        self._note("users")
        return self.snapshots.keys() & set(pieces)

    def forget(self, snapshot_ids: Collection[str], *, progress: Progress) -> None:
        self._note("forget")
        progress("forget", 0)
        for snapshot_id in snapshot_ids:
            self.snapshots.pop(snapshot_id, None)

    def copy_to(self, other: VaultPlace, snapshot_ids: Collection[str], *, progress: Progress) -> Mapping[str, str]:
        self._note("copy")
        progress("copy", 0)
        target = self.others[other.name]
        return {one: target.add(self.snapshots[one].tags, dict(self.files[one])).id for one in snapshot_ids}

    def size(self) -> VaultSize:
        self._note("size")
        return VaultSize(stored_bytes=1_000, free_bytes=None)

    def engine(self) -> str:
        return "shelf 1.0"

    def _note(self, verb: str) -> None:
        self.journal.note(f"{self.place.name}: {verb}")
