"""A chain of points of one database, as a run takes them and as a restore gets them."""

from __future__ import annotations

import itertools
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa

from tasks.backups.manifest import Manifest
from tasks.backups.staging import Limits, Link, ParentPoint, Stage
from tasks.backups.store.captures.postgresql import PostgresqlSource, private_server, release_logs, restore_database
from tests.integration.tasks.backups.postgresql.writing import fill, libpq
from tests.support.databases import migrate_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tasks.backups.manifest import Database
    from tasks.backups.staging import DatabaseCapture
    from tasks.backups.store.captures.postgresql import RestoredDatabase
    from tests.support.postgres import PostgresServer

LIMITS = Limits(nice=0, idle_io=False)


def ignore(phase: str, done: int, total: int | None = None) -> None:
    """Hear of progress, and go on."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point, and where its members lie."""

    capture: DatabaseCapture
    manifest: Manifest
    directory: Path
    parent: Point | None

    @property
    def expected(self) -> Database:
        return self.capture.expected

    @property
    def members(self) -> set[str]:
        return {member.name.removeprefix("database/") for member in self.capture.members}

    def links(self) -> list[Link]:
        before = self.parent.links() if self.parent else []
        return [*before, Link(manifest=self.manifest, directory=self.directory)]


@dataclass(kw_only=True)
class Points:
    """Takes points of a database, and restores them."""

    url: str
    tools: Path
    directory: Path
    """Which the account that runs PostgreSQL can enter."""
    read_whole_below_bytes: int = 1 << 30
    progress: Callable[..., None] = ignore
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def source(self) -> PostgresqlSource:
        return PostgresqlSource(self.url, tools=self.tools, read_whole_below_bytes=self.read_whole_below_bytes)

    def stage(self) -> Stage:
        number = next(self._numbers)
        directory = self.directory / f"{number:012x}"
        directory.mkdir()
        return Stage(directory=directory, progress=self.progress, limits=LIMITS)

    def take(self, parent: Point | None = None) -> Point:
        stage = self.stage()
        capture = self.source.capture(stage, parent=self.as_parent(parent) if parent else None)
        listed = {path.relative_to(stage.directory).as_posix() for path in stage.directory.rglob("*") if path.is_file()}
        assert listed == {member.name for member in capture.members}, "the stage holds what the members name"
        return Point(
            capture=capture, manifest=_manifest(stage, capture, parent), directory=stage.directory, parent=parent
        )

    def as_parent(self, point: Point) -> ParentPoint:
        return ParentPoint(manifest=point.manifest, fetch=lambda name: point.directory / name)

    def restore(self, point: Point, *, as_cluster: bool | None = True) -> RestoredDatabase:
        """Put a point together; it is compared with its manifest if it becomes a data directory."""
        return restore_database(point.links(), self.stage(), tools=self.tools, as_cluster=as_cluster)

    @contextmanager
    def restored(self, point: Point) -> Iterator[Connection]:
        """Restore a point, and give a connection to it."""
        cluster = self.restore(point).cluster
        assert cluster is not None
        role, database = point.expected.details["role"], point.expected.details["database"]
        with private_server(
            cluster, role=role, database=database, tools=self.tools, limits=LIMITS, tick=lambda: None
        ) as url:
            engine = sa.create_engine(url, poolclass=sa.NullPool)
            with engine.connect() as connection:
                yield connection


@contextmanager
def points_on(server: PostgresServer, directory: Path) -> Iterator[Points]:
    """Make a database with tables and rows on a server, and drop it afterwards."""
    name = f"nightcrew_test_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name}")
    url = server.url.set(database=name).render_as_string(hide_password=False)
    made = Points(url=url, tools=server.programs, directory=directory)
    try:
        migrate_database(url)
        fill(url)
        yield made
        release_logs(url, wanted=())
    finally:
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(server: PostgresServer, statement: str) -> None:
    """Do something on a server, outside of a transaction."""
    with psycopg.connect(libpq(server.url.render_as_string(hide_password=False)), autocommit=True) as connection:
        connection.execute(statement.encode())


def _manifest(stage: Stage, capture: DatabaseCapture, parent: Point | None) -> Manifest:
    point = stage.directory.name
    manifest = Manifest(
        point=point,
        run="run",
        profile="default",
        kind="incremental" if capture.is_delta else "full",
        chain=parent.manifest.chain if parent and capture.is_delta else point,
        sequence=parent.manifest.sequence + 1 if parent and capture.is_delta else 0,
        parent=parent.manifest.point if parent and capture.is_delta else None,
        reason="",
        taken_at=capture.taken_at,
        began_at=capture.taken_at,
        tools=capture.tools,
        members=tuple(capture.members),
        database=capture.expected,
        log_positions=tuple(capture.log_positions),
        size_bytes=0,
    )
    return Manifest.from_json(manifest.to_json())
