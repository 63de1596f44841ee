"""What a manifest expects of a database: every table, every value, and what kinds of tables SQLite has."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.backups.fingerprints import SqlValue, fingerprint_of
from tasks.backups.store.captures.sqlite_reading import find_differences, read_contents
from tests.integration.tasks.backups.sqlite.capturing import LEDGER, new_database, run_script, silent, take
from tests.support.databases import migrate_database

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.backups.manifest import Table
    from tasks.backups.store.captures.sqlite_reading import Contents

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
ODD = '''
CREATE TABLE "odd ""name"", with'all" ("a ""b""" INTEGER PRIMARY KEY, "select" TEXT);
INSERT INTO "odd ""name"", with'all" VALUES (7, 'x');
CREATE TABLE keyed (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
INSERT INTO keyed VALUES ('1', '2'), ('1', '3');
CREATE TABLE empty (id INTEGER PRIMARY KEY, updated_at BIGINT);
CREATE TABLE generated (a INTEGER, twice AS (a * 2), thrice AS (a * 3) STORED);
INSERT INTO generated (a) VALUES (5);
CREATE TABLE kinds (v);
INSERT INTO kinds VALUES (NULL), (1), (1.0), (-0.0), ('1'), (x'31'), (9e999), (-9e999);
INSERT INTO kinds VALUES (''), (x''), ('é' || char(0) || 'z');
CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT);
INSERT INTO numbered DEFAULT VALUES;
CREATE VIEW seen AS SELECT * FROM kinds;
CREATE TRIGGER pulled AFTER INSERT ON kinds BEGIN DELETE FROM empty; END;
'''


def _contents(path: Path, *, is_whole: bool = True) -> Contents:
    return read_contents(path, until=NOW, is_whole=is_whole, progress=silent)


def _table(path: Path, name: str) -> Table:
    return next(table for table in _contents(path).tables if table.name == name)


def test_all_kinds_of_tables_are_read(tmp_path: Path) -> None:
    """Names that need quoting, tables without rowid, generated columns, every type of value; and 0 rows are 0 rows."""
    path = new_database(tmp_path / "a.db", ODD, wal=False)
    rows: dict[str, list[tuple[SqlValue, ...]]] = {
        'odd "name", with\'all': [(7, "x")],
        "keyed": [("1", "2"), ("1", "3")],
        "empty": [],
        "generated": [(5, 15)],
        "kinds": [(v,) for v in (None, 1, 1.0, -0.0, "1", b"1", float("inf"), -float("inf"), "", b"", "é\0z")],
        "numbered": [(1,)],
        "sqlite_sequence": [("numbered", 1)],
    }
    found = {table.name: (table.rows, table.fingerprint, table.orphans) for table in _contents(path).tables}
    assert found == {name: (len(table), fingerprint_of(table), 0) for name, table in rows.items()}
    newest = {table.name: table.newest for table in _contents(path).tables if table.newest}
    assert newest == {'odd "name", with\'all': {'a "b"': "7"}, "numbered": {"id": "1"}}


def test_captured_and_restored_whatever_the_tables(tmp_path: Path) -> None:
    """The capture takes them all, and an empty database as well."""
    for number, script in enumerate((ODD, "PRAGMA user_version = 3", "PRAGMA encoding = 'UTF-16le'; " + ODD)):
        source = new_database(tmp_path / f"{number}.db", script)
        expected = take(source).capture.expected
        assert len(expected.tables) == (0 if number == 1 else 7)
        assert expected.unread == ""


def test_what_lies_behind_virtual_tables_is_read(tmp_path: Path) -> None:
    """The tables that a full-text index consists of; the index itself has nothing that is not there."""
    path = new_database(tmp_path / "a.db", "CREATE VIRTUAL TABLE notes USING fts5 (body)", wal=False)
    run_script(path, "INSERT INTO notes VALUES ('one word')")
    before = _contents(path)
    names = {table.name for table in before.tables}
    assert "notes_content" in names
    assert "notes" not in names
    run_script(path, "UPDATE notes SET body = 'two words'")
    changed = {was.name for was, now in zip(before.tables, _contents(path).tables, strict=True) if was != now}
    assert {"notes_content", "notes_data"} <= changed


def test_text_that_is_no_text_is_read(tmp_path: Path) -> None:
    """SQLite stores any bytes as text; a row with such a value counts as any other, and differs from its like."""
    fingerprints = set()
    for number, value in enumerate(("x'80'", "x'81'", "x'c3'", "x'c3a9'", "x'edb280'")):
        script = f"CREATE TABLE t (v TEXT, w TEXT); INSERT INTO t VALUES ('ok', 'é'), (CAST({value} AS TEXT), 'é')"  # noqa: S608
        table = _table(new_database(tmp_path / f"{number}.db", script, wal=False), "t")
        assert table.rows == 2
        fingerprints.add(table.fingerprint)
    assert len(fingerprints) == 5
    assert fingerprint_of([("ok", "é"), ("é", "é")]) in fingerprints


def test_orphans_are_counted(tmp_path: Path) -> None:
    """Rows whose foreign key points nowhere; NULL points nowhere and is none."""
    path = new_database(tmp_path / "a.db", LEDGER, wal=False)
    run_script(path, "DELETE FROM accounts WHERE id = 3; UPDATE transfers SET account = NULL WHERE id = 2")
    assert _table(path, "transfers").orphans == 199
    assert _table(path, "accounts").orphans == 0


def test_foreign_keys_that_make_no_sense_are_told_and_stop_nothing(tmp_path: Path) -> None:
    """A parent without a unique index is a mistake in the schema, and no reason to have no backup."""
    script = "CREATE TABLE p (a); CREATE TABLE c (a REFERENCES p (a)); INSERT INTO c VALUES (1)"
    path = new_database(tmp_path / "a.db", script, wal=False)
    contents = _contents(path)
    assert [table.orphans for table in contents.tables] == [None, 0]
    assert "the foreign keys of c cannot be checked: foreign key mismatch" in contents.unread
    assert [table.rows for table in contents.tables] == [1, 0]


def test_newest_instants_are_found_and_plans_are_no_commits(tmp_path: Path) -> None:
    """Columns of microseconds named `…_at`, with an index or without; what lies after the capture is planned."""
    minute = 60_000_000
    script = f"""
    CREATE TABLE jobs (id TEXT PRIMARY KEY, created_at BIGINT, due_at BIGINT, seen_at TEXT, sat INTEGER);
    CREATE INDEX jobs_created ON jobs (created_at);
    INSERT INTO jobs VALUES
        ('a', {NOW_US - 5 * minute}, {NOW_US - 3 * minute}, '2030', {NOW_US}),
        ('b', {NOW_US - 4 * minute}, {NOW_US + 9 * minute}, '2031', {NOW_US}),
        ('c', NULL, 'never', NULL, NULL);
    """  # noqa: S608  numbers
    path = new_database(tmp_path / "a.db", script.replace(", 'never'", ", NULL"), wal=False)
    contents = _contents(path)
    assert contents.tables[0].newest == {
        "id": "c",
        "created_at": str(NOW_US - 4 * minute),
        "due_at": str(NOW_US + 9 * minute),
    }
    assert contents.newest_commit_at == NOW - timedelta(minutes=3)
    words = _contents(new_database(tmp_path / "b.db", script, wal=False))
    assert words.tables[0].newest["due_at"] == "never"


def test_our_own_database_is_understood(tmp_path: Path) -> None:
    """Head of the migrations, the log's positions, and the newest commit."""
    path = tmp_path / "crew.db"
    migrate_database(f"sqlite:///{path}")
    run_script(path, f"INSERT INTO usage_offsets VALUES (1, 'e', '17-3', NULL, {NOW_US}), (0, 'e', '0-0', NULL, 1)")  # noqa: S608
    taken = take(path).capture
    with closing(sqlite3.connect(path)) as connection:
        head = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    assert taken.expected.migration_head == head
    assert [(one.partition, one.epoch, one.last_id) for one in taken.log_positions] == [
        (0, "e", "0-0"),
        (1, "e", "17-3"),
    ]
    assert taken.expected.newest_commit_at == NOW
    assert {table.name for table in taken.expected.tables} > {"usage_counts", "usage_offsets", "restore_points"}


def test_large_incrementals_are_counted_and_not_read(tmp_path: Path) -> None:
    """And the manifest says why; a full is always read."""
    source = new_database(tmp_path / "live.db", LEDGER)
    full = take(source, read_whole_below_bytes=1000)
    assert full.capture.expected.unread == ""
    assert all(table.fingerprint for table in full.capture.expected.tables)
    run_script(source, "INSERT INTO accounts VALUES (100, 0, 5)")
    large = take(source, parent=full, read_whole_below_bytes=1000).capture.expected
    assert [(table.name, table.rows, table.fingerprint, table.orphans) for table in large.tables] == [
        ("accounts", 41, None, None),
        ("transfers", 8_000, None, None),
    ]
    assert large.tables[0].newest == {"id": "100", "updated_at": "5"}
    assert "rows are read up to 1 kB" in large.unread
    small = take(source, parent=full).capture.expected
    assert small.unread == ""
    assert all(table.fingerprint for table in small.tables)


DAMAGES = {
    "a row is gone": ("DELETE FROM transfers WHERE id = 17", "table transfers: rows 7999 instead of 8000"),
    "a row is twice": (
        "INSERT INTO transfers SELECT 0, account, note FROM transfers WHERE id = 9",
        "rows 8001 instead",
    ),
    "a value": ("UPDATE transfers SET note = note || ' ' WHERE id = 17", "table transfers: fingerprint v2:"),
    "an orphan": ("UPDATE transfers SET account = 99 WHERE id = 17", "table transfers: orphans 1 instead of 0"),
    "a table is empty": ("DELETE FROM transfers", "table transfers: rows 0 instead of 8000"),
    "a table is gone": ("DROP TABLE transfers", "table transfers: missing"),
    "a table is new": ("CREATE TABLE more (a)", "table more: not expected"),
    "an index is gone": ("DROP INDEX transfers_account", "schema: "),
    "an older state": ("UPDATE accounts SET updated_at = 0 WHERE id = 1", "newest instant: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_difference_is_found_by_contents_alone(tmp_path: Path, damage: str) -> None:
    """Without the hash of the file: that is what the restore test has on PostgreSQL too."""
    script, said = DAMAGES[damage]
    source = new_database(tmp_path / "live.db", LEDGER, wal=False)
    run_script(source, "UPDATE accounts SET updated_at = 9 WHERE id = 1")
    taken = take(source).capture
    assert find_differences(source, taken.expected, taken_at=taken.taken_at, progress=silent) == []
    run_script(source, script)
    differences = find_differences(source, taken.expected, taken_at=taken.taken_at, progress=silent)
    assert any(said in difference for difference in differences), differences
