"""The world around a backup in memory: sources, stages, tables, an attempt that can be called off or lost."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tasks.backups.manifest import FILE_NAME, ConfigFile, Database, Manifest, Member, Redis, Table
from tasks.backups.points import PointState
from tasks.backups.promotion import Source
from tasks.backups.staging import DatabaseCapture, FilesCapture, RedisCapture
from tasks.errors import CancelledError, LeaseLostError
from tests.fakes.shelf import START, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.adoption import Found
    from tasks.backups.backup import Found as Parent
    from tasks.backups.backup import Taken
    from tasks.backups.manifest import Part
    from tasks.backups.points import RestorePoint
    from tasks.backups.staging import ParentPoint, Stage
    from tasks.backups.storage import Check, Measure
    from tasks.backups.vaults import Snapshot, Vault


@dataclass
class Clock:
    """Goes on by a second each time that somebody looks."""

    now: datetime = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class FakeAttempt:
    """A hold on a run; it hears all progress, and ends the work after so many reports."""

    reports: list[tuple[float, str]] = field(default_factory=list)
    cancels_after: int | None = None

    def report(self, share: float, text: str = "") -> None:
        self.reports.append((share, text))
        if self.cancels_after is not None and len(self.reports) > self.cancels_after:
            msg = "called off"
            raise CancelledError(msg)


@dataclass
class FakeSources:
    """A database that is a text, a broker and a configuration file."""

    journal: Journal
    text: bytes = b"one\n" * 1_000
    promotes_because: str | None = None

    def describe(self) -> Source:
        return Source(engine="sqlite", server_version="3.40.1")

    def database(self, stage: Stage, parent: ParentPoint | None) -> DatabaseCapture:
        self.journal.note("capture database" if parent is None else f"capture delta on {parent.manifest.point}")
        is_delta = parent is not None and self.promotes_because is None
        name = "database/delta" if is_delta else "database/full"
        before = parent.fetch("database/pages").read_bytes() if parent is not None else b""
        members = [
            written(stage.directory, name, self.text[:20] if is_delta else self.text, "database"),
            written(stage.directory, "database/pages", hashlib.sha256(self.text).digest(), "database"),
        ]
        stage.progress("copy", len(self.text), len(self.text))
        return DatabaseCapture(
            members=members,
            expected=expected_database(self.text),
            taken_at=START,
            is_delta=is_delta,
            promoted_because=self.promotes_because if parent is not None else None,
            is_unchanged=before == hashlib.sha256(self.text).digest(),
            tools={"sqlite": "3.40.1"},
        )

    def redis(self, stage: Stage) -> Sequence[RedisCapture]:
        self.journal.note("capture redis")
        member = written(stage.directory, "redis/broker.rdb", b"REDIS0010", "redis")
        stage.progress("save broker", 9, 9)
        expected = Redis(name="broker", member=member.name, server_version="7.0", databases=(), digest="0" * 40)
        return [RedisCapture(members=[member], expected=expected, size_bytes=member.size_bytes)]

    def files(self, stage: Stage, parts: Collection[Part]) -> FilesCapture:
        self.journal.note(f"capture {' '.join(sorted(parts))}")
        found = [(part, written(stage.directory, f"{part}/file", b"x = 1\n", part)) for part in sorted(parts)]
        return FilesCapture(
            members=[member for _, member in found],
            expected=[
                ConfigFile(member=member.name, part="config" if part == "config" else "model", origin="/x", mode=0o640)
                for part, member in found
            ],
            size_bytes=6 * len(found),
        )


def expected_database(text: bytes) -> Database:
    return Database(
        engine="sqlite",
        server_version="3.40.1",
        method="copy",
        schema_sha256="0" * 64,
        migration_head="0003",
        tables=(Table(name="lines", rows=text.count(b"\n")),),
        file_sha256=hashlib.sha256(text).hexdigest(),
        file_bytes=len(text),
    )


def written(stage: Path, name: str, content: bytes, part: Part) -> Member:
    path = stage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Member(name=name, part=part, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@dataclass
class FakeStages:
    """Stages in a directory; each is gone after its block."""

    journal: Journal
    directory: Path

    def clear(self) -> None:
        self.journal.note("clear stages")

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        self.journal.note("open stage")
        stage = self.directory / name
        stage.mkdir(parents=True)
        try:
            yield stage
        finally:
            shutil.rmtree(stage)
            self.journal.note("remove stage")

    def seal(self, stage: Path, manifest: Manifest) -> Mapping[str, int]:
        (stage / FILE_NAME).write_bytes(manifest.to_json())
        return {str(path.relative_to(stage)): path.stat().st_size for path in stage.rglob("*") if path.is_file()}


@dataclass
class FakeMembers:
    """Gives members from the vault, and keeps nothing."""

    journal: Journal
    vault: Vault
    directory: Path

    def fetcher(self, parent: Parent, stage: Stage) -> Callable[[str], Path]:
        def fetch(name: str) -> Path:
            into = self.directory / f"{len(self.journal.entries)}"
            self.vault.get(parent.snapshot_id, [name], into, progress=stage.progress)
            return into / name

        return fetch

    def keep(self, manifest: Manifest, stage: Path, points: Sequence[RestorePoint]) -> None:
        assert stage.is_dir()
        assert manifest.point not in [point.id for point in points]
        self.journal.note("keep members")


@dataclass
class FakeManifests:
    """Reads each manifest from the vault."""

    vault: Vault
    kept: list[str] = field(default_factory=list)
    """Points whose manifests were kept last."""

    def read(self, snapshot: Snapshot) -> Manifest:
        return Manifest.from_json(self.vault.read(snapshot.id, FILE_NAME))

    def keep_only(self, snapshots: Collection[Snapshot]) -> None:
        self.kept[:] = [snapshot.tags.point for snapshot in snapshots]


@dataclass
class FakeBook:
    """The tables of one vault."""

    journal: Journal
    rows: dict[str, RestorePoint] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    found: list[Check] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    """Whether another worker has the run by now."""

    def points(self) -> Sequence[RestorePoint]:
        return sorted(self.rows.values(), key=lambda point: point.taken_at, reverse=True)

    def adopt(self, found: Found) -> None:
        self._write(f"adopt {found.point.id}")
        self.rows[found.point.id] = found.point

    def mark_damaged(self, point_id: str, reason: str) -> None:
        self._write(f"damage {point_id}")
        self.rows[point_id] = replace(self.rows[point_id], state=PointState.DAMAGED, state_reason=reason)

    def checks(self) -> Sequence[Check]:
        return self.found

    def note_check(self, check: Check) -> None:
        self._write("note check")
        self.found.append(check)

    def record(self, taken: Taken, measure: Measure, result: Mapping[str, Any]) -> None:
        assert measure.points == len({*self.rows, taken.point.id})
        self._write("record")
        self.rows[taken.point.id] = taken.point
        self.results.append(dict(result))

    def delete(self, point_ids: Collection[str]) -> None:
        self._write("delete rows")
        for point_id in point_ids:
            del self.rows[point_id]

    def note_copy(self, point_id: str, snapshot_id: str) -> None:
        self._write(f"note copy {point_id}")
        self.copies[point_id] = snapshot_id

    def _write(self, entry: str) -> None:
        self.journal.note(entry)
        if self.is_lost:
            msg = "another worker has the run"
            raise LeaseLostError(msg)


def as_it_is(point: RestorePoint, before: Sequence[RestorePoint]) -> RestorePoint:
    """Judge nothing."""
    del before
    return point
