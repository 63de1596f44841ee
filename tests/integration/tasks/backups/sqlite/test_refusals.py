"""A database that cannot be captured fails with what to do, and never with an empty backup."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tasks.backups.staging import ParentPoint, Stage
from tasks.backups.store.captures.sqlite import capture_sqlite
from tasks.backups.store.captures.sqlite_copying import DamagedSourceError, copy_database
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.errors import PermanentError, TransientError
from tests.integration.tasks.backups.sqlite.capturing import (
    LEDGER,
    Heard,
    Taken,
    files_limited_to,
    new_database,
    rows_of,
    run_script,
    silent,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_missing_source(tmp_path: Path) -> None:
    """With its path; nothing is made in its place."""
    with pytest.raises(PermanentError, match=r"there is no database at .*gone\.db"):
        take(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()


def test_empty_source(tmp_path: Path) -> None:
    """SQLite takes a file without a whole page for a database without tables; a truncated one is no backup."""
    for content in (b"", b"x"):
        (tmp_path / "a.db").write_bytes(content)
        with pytest.raises(DamagedSourceError, match=f"is empty .{len(content)} bytes"):
            take(tmp_path / "a.db")


@pytest.mark.parametrize("content", [b"no database, only text" * 999, bytes(8192), random.Random(1).randbytes(8192)])
def test_source_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    """Text, zeros, noise."""
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(DamagedSourceError, match="no SQLite database"):
        take(tmp_path / "a.db")


def test_directory_in_its_place(tmp_path: Path) -> None:
    """A path that was given wrongly."""
    with pytest.raises(DamagedSourceError, match="is no file"):
        take(tmp_path)


def _overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def _damage_index(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'transfers_account'").fetchone()
    _overwrite(path, (page - 1) * 4096 + 8, bytes(1000))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "noise on a page": lambda path: _overwrite(path, 300 * 4096, os.urandom(4096)),
    "an index, which no row is read from": _damage_index,
    "zeros on a page": lambda path: _overwrite(path, 300 * 4096, bytes(4096)),
    "half of the file": lambda path: os.truncate(path, path.stat().st_size // 8192 * 4096),
    "the schema": lambda path: _overwrite(path, 100, bytes(200)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_source(tmp_path: Path, damage: str) -> None:
    """What SQLite finds is told, for this job fails at once and a person has to act."""
    source = new_database(tmp_path / "a.db", LEDGER, wal=False)
    DAMAGES[damage](source)
    with pytest.raises(DamagedSourceError, match="damaged") as raised:
        take(source)
    assert "\n" not in str(raised.value)


def test_check_constraint_of_the_source_stops_nothing(tmp_path: Path) -> None:
    """A row that breaks one was let in by somebody; one that calls a function of the app cannot be checked here."""
    source = tmp_path / "a.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.create_function("is_nice", 1, lambda _value: 1, deterministic=True)
        connection.execute("CREATE TABLE t (a CHECK (is_nice(a)), c AS (is_nice(a)))")
        connection.execute("CREATE TABLE u (b CHECK (b > 0))")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("INSERT INTO t (a) VALUES (1)")
        connection.execute("INSERT INTO u VALUES (-1)")
        connection.commit()
    assert [table.rows for table in take(source).capture.expected.tables] == [1, 1]


def test_row_that_breaks_its_check_comes_back(tmp_path: Path) -> None:
    """What the source allowed itself is no damage, although SQLite says so to whoever may write."""
    source = tmp_path / "a.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("CREATE TABLE u (b CHECK (b > 0))")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("INSERT INTO u VALUES (-1)")
        connection.commit()
        connection.execute("PRAGMA ignore_check_constraints = OFF")
        assert connection.execute("PRAGMA quick_check").fetchall() != [("ok",)], "this is the trap"
    restore_sqlite([take(source).link], tmp_path / "back.db", progress=silent)
    assert rows_of(tmp_path / "back.db", "SELECT b FROM u") == [(-1,)]


def test_locked_source(tmp_path: Path) -> None:
    """Without a write-ahead log a writer keeps readers out while it commits: try again later."""
    source = new_database(tmp_path / "a.db", LEDGER, wal=False)
    with closing(sqlite3.connect(source, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match="locked"):
            copy_database(source, tmp_path / "copy", progress=silent, spare=0, lock_patience_s=0.2)


def test_locked_in_the_middle(tmp_path: Path) -> None:
    """A copy that is under way has its own lock, which no writer can take away."""
    source = new_database(tmp_path / "a.db", LEDGER, wal=False)
    errors: list[str] = []

    def lock(_done: int, _total: int | None) -> None:
        with closing(sqlite3.connect(source, isolation_level=None, timeout=0)) as other:
            try:
                other.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                errors.append(str(error))

    assert take(source, progress=Heard("copying", lock)).capture.expected.tables[0].rows == 40
    assert set(errors) == {"database is locked"}


def test_too_little_room(tmp_path: Path) -> None:
    """Known before anything is copied: what is there, and what is needed."""
    source = new_database(tmp_path / "a.db", LEDGER)
    spare = shutil.disk_usage(tmp_path).total / source.stat().st_size
    with pytest.raises(TransientError, match=r"has .* left, and about .* are needed"):
        copy_database(source, tmp_path / "copy", progress=silent, spare=spare)
    assert (tmp_path / "copy").stat().st_size == 0


def test_disk_that_gets_full_meanwhile(tmp_path: Path) -> None:
    """Somebody else has taken the room: try again later."""
    source = new_database(tmp_path / "a.db", LEDGER)
    with files_limited_to(source.stat().st_size // 2), pytest.raises(TransientError, match="cannot be read and copied"):
        copy_database(source, tmp_path / "copy", progress=silent, spare=0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Nobody can lead the copy elsewhere."""
    source = new_database(tmp_path / "a.db", LEDGER)
    (tmp_path / "copy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        copy_database(source, tmp_path / "copy", progress=silent, spare=0)
    assert not (tmp_path / "elsewhere").exists()


def _parent_of(source: Path) -> Taken:
    full = take(source)
    run_script(source, "UPDATE accounts SET balance = 0 WHERE id = 3")
    return full


def test_parent_that_cannot_be_used_makes_a_full(tmp_path: Path) -> None:
    """Its list is damaged, of another file, not in the vault; or it has no SQLite database: each with the reason."""
    source = new_database(tmp_path / "a.db", LEDGER)
    parent = _parent_of(source)
    other = take(source)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(random.Random(1).randbytes(1000))

    def missing(name: str) -> Path:
        msg = f"the vault does not have {name}"
        raise PermanentError(msg)

    assert parent.manifest.database is not None
    server = parent.manifest.database.model_copy(update={"engine": "postgresql"})
    manifest = parent.manifest
    cases = (
        (ParentPoint(manifest=manifest, fetch=lambda _: garbage), "damaged"),
        (ParentPoint(manifest=manifest, fetch=lambda name: other.directory / name), "of another file"),
        (ParentPoint(manifest=manifest, fetch=missing), "the vault does not have database/pages"),
        (ParentPoint(manifest=manifest.model_copy(update={"database": server}), fetch=missing), "no SQLite database"),
        (ParentPoint(manifest=manifest.model_copy(update={"database": None}), fetch=missing), "no SQLite database"),
    )
    for number, (wrong, because) in enumerate(cases):
        directory = tmp_path / f"stage-{number}"
        directory.mkdir()
        taken = capture_sqlite(source, Stage(directory=directory, progress=silent), parent=wrong)
        assert not taken.is_delta
        assert because in (taken.promoted_because or "")
        assert manifest.point in (taken.promoted_because or "")


def test_vault_that_is_away_makes_no_full(tmp_path: Path) -> None:
    """That would fill it with fulls: the job is tried again."""
    source = new_database(tmp_path / "a.db", LEDGER)
    parent = _parent_of(source)

    def away(_name: str) -> Path:
        raise TransientError("the vault does not answer")

    (tmp_path / "stage").mkdir()
    with pytest.raises(TransientError, match="does not answer"):
        capture_sqlite(
            source,
            Stage(directory=tmp_path / "stage", progress=silent),
            parent=ParentPoint(manifest=parent.manifest, fetch=away),
        )
