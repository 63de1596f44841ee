"""Stages, points and writers for the tests of this package."""

from __future__ import annotations

import resource
import secrets
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.backups.manifest import Manifest
from tasks.backups.staging import Link, ParentPoint, Stage
from tasks.backups.store.captures.sqlite import capture_sqlite
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.backups.staging import DatabaseCapture, Progress


def silent(phase: str, done: int, total: int | None = None) -> None:
    """Hear nothing."""


class Heard:
    """A progress that does something each time one of the phases is told."""

    def __init__(self, phase: str, act: Callable[[int, int | None], object]) -> None:
        self._phase, self._act = phase, act

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        if phase == self._phase:
            self._act(done, total)


def raising(error: Exception) -> Callable[[int, int | None], None]:
    """Give something to do that raises this."""

    def act(_done: int, _total: int | None) -> None:
        raise error

    return act


class Taken:
    """A capture with its stage, as a point of a chain."""

    def __init__(self, capture: DatabaseCapture, directory: Path, parent: Taken | None) -> None:
        self.capture, self.directory = capture, directory
        now = datetime.now(UTC)
        self.manifest: Manifest = Manifest(
            point=secrets.token_hex(6),
            run="run",
            profile="default",
            kind="incremental" if capture.is_delta else "full",
            chain="chain",
            sequence=0,
            parent=parent.manifest.point if parent and capture.is_delta else None,
            reason="test",
            taken_at=capture.taken_at,
            began_at=now,
            tools=capture.tools,
            members=tuple(capture.members),
            database=capture.expected,
            size_bytes=capture.expected.file_bytes or 0,
        )

    @property
    def link(self) -> Link:
        return Link(manifest=self.manifest, directory=self.directory)

    @property
    def as_parent(self) -> ParentPoint:
        return ParentPoint(manifest=self.manifest, fetch=lambda name: self.directory / name)


def take(source: Path, *, parent: Taken | None = None, progress: Progress = silent, **options: Any) -> Taken:
    """Capture into a stage beside the source."""
    directory = source.parent / f"stage-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    stage = Stage(directory=directory, progress=progress)
    capture = capture_sqlite(source, stage, parent=parent.as_parent if parent else None, **options)
    return Taken(capture, directory, parent)


def new_database(path: Path, script: str = "", *, wal: bool = True) -> Path:
    """Write a database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        connection.executescript(script)
        connection.commit()
    return path


def run_script(path: Path, script: str) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        connection.commit()


def rows_of(path: Path, statement: str) -> list[Any]:
    """Ask a database that nobody writes to."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute(statement).fetchall()


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond this: what a full disk does, where no disk can be filled."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ACCOUNTS = 40
LEDGER = f"""
CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, updated_at BIGINT NOT NULL);
CREATE TABLE transfers (id INTEGER PRIMARY KEY, account INTEGER REFERENCES accounts, note TEXT);
CREATE INDEX transfers_account ON transfers (account);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
INSERT INTO accounts SELECT i, 1000, 0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
INSERT INTO transfers SELECT i, 1 + i % {ACCOUNTS}, hex(randomblob(100)) FROM n;
"""  # noqa: S608  a constant
"""Money that is moved about: the sum of all balances is the same after each transaction and never within one."""

_MOVE = """
UPDATE accounts SET balance = balance - 7, updated_at = :at WHERE id = :one;
UPDATE accounts SET balance = balance + 7, updated_at = :at WHERE id = :other;
INSERT INTO transfers (account, note) VALUES (:one, hex(randomblob(60)))
"""


class Writer(threading.Thread):
    """Moves money as fast as it can, each time in a transaction of three statements."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(name=f"writer-{number}")
        self._path, self._number = path, number
        self.commits = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                while not self.ended.is_set():
                    self._move(connection)
        except sqlite3.Error as error:
            self.error = error

    def _move(self, connection: sqlite3.Connection) -> None:
        one = 1 + self.commits % ACCOUNTS
        values = {"at": self.commits, "one": one, "other": 1 + (one + self._number) % ACCOUNTS}
        connection.execute("BEGIN IMMEDIATE")
        for statement in _MOVE.split(";"):
            connection.execute(statement, {name: value for name, value in values.items() if f":{name}" in statement})
        connection.execute("COMMIT")
        self.commits += 1


@contextmanager
def writing(path: Path, writers: int = 2) -> Iterator[list[Writer]]:
    """Have writers at work; they must all have got through without an error."""
    threads = [Writer(path, number) for number in range(1, writers + 1)]
    for thread in threads:
        thread.start()
    try:
        wait_until(
            lambda: all(thread.commits > 10 or thread.error for thread in threads), timeout_s=60, what="first commits"
        )
        yield threads
    finally:
        for thread in threads:
            thread.ended.set()
        for thread in threads:
            thread.join(60)
    assert [thread.error for thread in threads] == [None] * writers
