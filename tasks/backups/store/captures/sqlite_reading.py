"""What is in a SQLite database that nobody writes to: captured, or restored. Both are read by the same function.

Every table that has pages of its own is read: those of SQLite itself and those that lie behind a virtual table too.
The virtual tables and views have nothing that is not there already.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.fingerprints import Fingerprint
from tasks.backups.manifest import LogPosition, Table
from tasks.backups.store.captures.sqlite_copying import reading
from tasks.backups.store.captures.sqlite_orphans import count_orphans, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.backups.manifest import Database
    from tasks.backups.staging import Progress

_ROWS_AT_ONCE: Final = 250
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT_SUFFIX: Final = "_at"
_HIDDEN_BUT_STORED: Final = 3
"""`PRAGMA table_xinfo`: a generated column that is stored. Others are worked out, perhaps by functions of the app."""

_any_text = partial(str, encoding="utf-8", errors="surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database held. The fields are those of `tasks.backups.manifest.Database`."""

    server_version: str
    schema_sha256: str
    migration_head: str | None
    tables: tuple[Table, ...]
    unread: str
    """What could not be read although it should be."""
    newest_commit_at: datetime | None
    log_positions: tuple[LogPosition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    stored: Sequence[str]
    instants: Sequence[str]
    key: str | None
    """The primary key, if it is one column."""


def find_differences(file: Path, expected: Database, *, taken_at: datetime, progress: Progress) -> list[str]:
    """Read a restored database and say in words where it is not what was captured at a moment; nothing, if it is.

    Raises:
        PermanentError: it is no database, or is damaged.
    """
    is_whole = any(table.fingerprint is not None for table in expected.tables)
    found = read_contents(file, until=taken_at, is_whole=is_whole, progress=progress)
    pairs = {
        "schema": (found.schema_sha256, expected.schema_sha256),
        "migration head": (found.migration_head, expected.migration_head),
        "newest instant": (found.newest_commit_at, expected.newest_commit_at),
    }
    said = [f"{name}: {now} instead of {then}" for name, (now, then) in pairs.items() if now != then]
    here, there = ({table.name: table for table in tables} for tables in (found.tables, expected.tables))
    for name in sorted(here.keys() | there.keys()):
        said += _table_differences(name, here.get(name), there.get(name))
    return said


def read_contents(file: Path, *, until: datetime, is_whole: bool, progress: Progress) -> Contents:
    """Read a database: all its rows, or only how many they are and the newest values.

    `until` is the moment of the capture: instants after it are plans, and no commits.

    Raises:
        PermanentError: it is no database, or is damaged.
    """
    with reading(file, lambda: progress("reading", 0)) as connection:
        head = _values(connection, "SELECT version_num FROM alembic_version", needs="alembic_version")
        positions = _values(
            connection, "SELECT partition, epoch, last_id FROM usage_offsets ORDER BY partition", needs="usage_offsets"
        )
        reader = _Reader(connection, until, is_whole=is_whole)
        tables = tuple(map(reader.read, _tables(connection)))
        return Contents(
            server_version=sqlite3.sqlite_version,
            schema_sha256=_schema_sha256(connection),
            migration_head=",".join(sorted(str(row[0]) for row in head)) or None,
            tables=tables,
            unread="; ".join(reader.unread),
            newest_commit_at=reader.newest_commit_at,
            log_positions=tuple(LogPosition(partition=row[0], epoch=row[1], last_id=row[2]) for row in positions),
        )


class _Reader:
    """Goes through the tables of a database."""

    def __init__(self, connection: sqlite3.Connection, until: datetime, *, is_whole: bool) -> None:
        self._connection, self._is_whole = connection, is_whole
        self._until_us = (until - _EPOCH) // timedelta(microseconds=1)
        self._newest_us: int | None = None
        self.unread: list[str] = []

    @property
    def newest_commit_at(self) -> datetime | None:
        return None if self._newest_us is None else _EPOCH + timedelta(microseconds=self._newest_us)

    def read(self, name: str) -> Table:
        columns = _columns(self._connection, name)
        rows, newest = self._newest(name, columns)
        if not self._is_whole:
            return Table(name=name, rows=rows, newest=newest)
        fingerprint = self._fingerprint(name, columns)
        return Table(
            name=name,
            rows=fingerprint.rows,
            fingerprint=str(fingerprint),
            newest=newest,
            orphans=self._orphans(name),
        )

    def _newest(self, name: str, columns: _Columns) -> tuple[int, dict[str, str]]:
        """Count the rows and find the largest values; each index that helps with one of them is used."""
        table = quoted(name)
        rows = 0 if self._is_whole else self._one(f"SELECT count(*) FROM {table}")  # noqa: S608  quoted
        newest = {}
        for column in dict.fromkeys((*filter(None, (columns.key,)), *columns.instants)):
            largest = self._one(f"SELECT max({quoted(column)} COLLATE BINARY) FROM {table}")  # noqa: S608
            if largest is not None:
                newest[column] = largest.hex() if isinstance(largest, bytes) else str(largest)
            if column in columns.instants and isinstance(largest, int):
                self._take_instant(table, quoted(column), largest)
        return rows, newest

    def _take_instant(self, table: str, column: str, largest_us: int) -> None:
        if largest_us > self._until_us:  # a plan: the commits are below
            past = f"SELECT max({column}) FROM {table} WHERE typeof({column}) = 'integer' AND {column} <= ?"  # noqa: S608
            largest_us = self._one(past, self._until_us) or 0
        if largest_us > (self._newest_us or 0):
            self._newest_us = largest_us

    def _fingerprint(self, name: str, columns: _Columns) -> Fingerprint:
        try:
            return self._read_rows(name, columns)
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        self._connection.text_factory = _any_text  # half as fast, and no text is refused
        try:
            return self._read_rows(name, columns)
        finally:
            self._connection.text_factory = str

    def _read_rows(self, name: str, columns: _Columns) -> Fingerprint:
        fingerprint = Fingerprint()
        listed = ", ".join(map(quoted, columns.stored))
        cursor = self._connection.execute(f"SELECT {listed} FROM {quoted(name)}")  # noqa: S608  quoted
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            fingerprint.add(rows)
        return fingerprint

    def _orphans(self, name: str) -> int | None:
        try:
            return count_orphans(self._connection, name)
        except sqlite3.OperationalError as error:
            if "foreign key mismatch" not in str(error):
                raise
            self.unread.append(f"the foreign keys of {name} cannot be checked: {error}")
            return None

    def _one(self, statement: str, *parameters: str | int) -> Any:
        return self._connection.execute(statement, parameters).fetchone()[0]


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    return [name for (name,) in found]


def _columns(connection: sqlite3.Connection, table: str) -> _Columns:
    found = connection.execute("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", (table,))
    rows = [row for row in found.fetchall() if row[3] in {0, _HIDDEN_BUT_STORED}]
    key = [name for name, _, place, _ in rows if place]
    return _Columns(
        stored=[row[0] for row in rows],
        instants=[name for name, kind, _, _ in rows if name.endswith(_INSTANT_SUFFIX) and "INT" in kind.upper()],
        key=key[0] if len(key) == 1 else None,
    )


def _values(connection: sqlite3.Connection, statement: str, *, needs: str) -> list[Any]:
    is_there = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (needs,)).fetchone()
    return connection.execute(statement).fetchall() if is_there else []


def _schema_sha256(connection: sqlite3.Connection) -> str:
    found = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_schema ORDER BY name, type")
    return hashlib.sha256(json.dumps(found.fetchall()).encode()).hexdigest()


def _table_differences(name: str, found: Table | None, expected: Table | None) -> list[str]:
    if found is None or expected is None:
        return [f"table {name}: {'missing' if found is None else 'not expected'}"]
    pairs: dict[str, tuple[Any, Any]] = {
        "rows": (found.rows, expected.rows),
        "newest": (found.newest, expected.newest),
        "fingerprint": (found.fingerprint, expected.fingerprint),
        "orphans": (found.orphans, expected.orphans),
    }
    return [f"table {name}: {field} {now} instead of {then}" for field, (now, then) in pairs.items() if now != then]
