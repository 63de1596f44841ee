"""What is seen of a restored SQLite database, and what damaging copies of it leaves alone."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.drills.sqlite import SqliteExaminer
from tasks.backups.store.drills.sqlite_mutants import mutants_of
from tasks.errors import CancelledError
from tests.integration.tasks.backups.drills.captured import FILE, Chain, damaged
from tests.integration.tasks.backups.drills.subjects import silent, tried
from tests.integration.tasks.backups.sqlite.capturing import Heard, raising

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Check
    from tasks.backups.staging import Progress

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, said TEXT, seen_at INTEGER)"
SOME = "INSERT INTO notes (said, seen_at) VALUES ('one', 1), ('two', 2), ('three', 3)"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def looked(subject: Subject, *, read_whole_below_bytes: int = 1 << 28) -> dict[str, Check]:
    examiner = SqliteExaminer(read_whole_below_bytes=read_whole_below_bytes)
    return {check.name: check for check in examiner.examine(subject, silent)}


def differing(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.differences}


def test_what_is_equal_says_how_much_was_looked_at(chain: Chain) -> None:
    """Rows are counted; a table without any is told as 0 rows, and so is what the database does not have."""
    chain.do(NOTES, SOME, "CREATE TABLE vacant (id INTEGER)")
    chain.take()
    subject = chain.subject()
    checks = looked(subject)
    assert {name: (check.outcome, check.examined, check.unit) for name, check in checks.items()} == {
        "sqlite.file": ("equal", (subject.restored / FILE).stat().st_size, "bytes"),
        "sqlite.alone": ("equal", 1, "files"),
        "sqlite.integrity": ("equal", 3, "pages"),
        "sqlite.content": ("equal", 3, "rows"),
        "sqlite.content.vacant": ("nothing to compare", 0, "rows"),
        "sqlite.schema": ("equal", 2, "definitions"),
        "sqlite.migration-head": ("nothing to compare", 0, "revisions"),
        "sqlite.newest": ("equal", 3, "values"),
        "sqlite.log-positions": ("nothing to compare", 0, "partitions"),
        "sqlite.foreign-keys": ("equal", 3, "rows"),
    }


def test_each_table_says_what_differs(chain: Chain) -> None:
    """Rows that are gone, rows that are others, tables that are gone or new: each by its name."""
    chain.do(NOTES, SOME, "CREATE TABLE a (n INTEGER)", "CREATE TABLE b (n INTEGER)", "INSERT INTO a VALUES (1), (2)")
    chain.take()
    subject = chain.subject()

    def harm(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE notes SET said = 'One' WHERE id = 1")
        connection.execute("DELETE FROM a WHERE n = 1")
        connection.execute("DROP TABLE b")
        connection.execute("CREATE TABLE c (n INTEGER)")

    damaged(subject, harm)
    checks = looked(subject)
    assert [one.split(" ", 2)[1] for one in checks["sqlite.content"].differences] == ["a:", "a:", "b:", "c:", "notes:"]
    assert checks["sqlite.content"].differences[0] == "table a: rows 1 instead of 2"
    assert differing(checks) == {"sqlite.file", "sqlite.content", "sqlite.schema"}


def test_rows_that_pointed_nowhere_when_they_were_captured_are_no_damage(chain: Chain) -> None:
    """They are as many as they were, counted in both ways; one more is a difference in both."""
    chain.do(
        "CREATE TABLE sites (id INTEGER PRIMARY KEY)",
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, site INTEGER REFERENCES sites (id))",
        "INSERT INTO sites VALUES (1)",
        "INSERT INTO visits VALUES (1, 1), (2, 7)",
    )
    chain.take()
    subject = chain.subject()
    assert looked(subject)["sqlite.foreign-keys"].is_equal
    damaged(subject, lambda connection: connection.execute("UPDATE visits SET site = 8 WHERE id = 1"))
    assert looked(subject)["sqlite.foreign-keys"].differences == (
        "table visits: rows that point nowhere by keys 2 instead of 1",
        "table visits: rows that point nowhere by foreign_key_check 2 instead of 1",
    )


def test_of_a_large_database_bytes_are_compared_and_rows_counted(chain: Chain) -> None:
    """One letter is found by the hash alone; what SQLite finds wrong, counts and keys are looked at all the same."""
    chain.do(NOTES, SOME, "CREATE TABLE visits (note INTEGER REFERENCES notes (id))", "INSERT INTO visits VALUES (1)")
    chain.take()
    subject = chain.subject()
    checks = looked(subject, read_whole_below_bytes=0)
    assert checks["sqlite.content"].unit == "rows counted"
    assert not differing(checks)
    damaged(subject, lambda connection: connection.execute("UPDATE notes SET said = 'One' WHERE id = 1"))
    assert differing(looked(subject, read_whole_below_bytes=0)) == {"sqlite.file"}
    damaged(subject, lambda connection: connection.execute("DELETE FROM notes WHERE id = 1"))
    assert differing(looked(subject, read_whole_below_bytes=0)) == {
        "sqlite.file",
        "sqlite.content",
        "sqlite.foreign-keys",
    }


@pytest.mark.parametrize("content", [b"", b"no database at all, and longer than a header" * 9, None])
def test_a_file_that_cannot_be_read_is_a_difference(chain: Chain, content: bytes | None) -> None:
    """It is never an error, which would leave it open whether the point is damaged."""
    chain.do(NOTES, SOME)
    chain.take()
    subject = chain.subject()
    file = subject.restored / FILE
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert "sqlite.file" in differing(looked(subject))


def test_a_reader_in_the_way_of_an_equal_file_is_no_damage(chain: Chain) -> None:
    """An index in an order that only the application knows cannot be checked: that says nothing of the point.

    As soon as a byte is another, it is a difference: damage makes files unreadable.
    """
    chain.do(NOTES, SOME)
    chain.take()
    subject = chain.subject()

    def harm(connection: sqlite3.Connection) -> None:
        connection.create_collation("by_ear", lambda one, other: (one > other) - (one < other))
        connection.execute("CREATE INDEX by_ear ON notes (said COLLATE by_ear)")

    damaged(subject, harm)
    content = (subject.restored / FILE).read_bytes()
    assert subject.manifest.database is not None
    said = {"file_sha256": hashlib.sha256(content).hexdigest(), "file_bytes": len(content)}
    database = subject.manifest.database.model_copy(update=said)
    checks = looked(replace(subject, manifest=subject.manifest.model_copy(update={"database": database})))
    assert checks["sqlite.file"].is_equal
    assert (checks["sqlite.integrity"].outcome, "by_ear" in checks["sqlite.integrity"].unable) == ("unable", True)
    assert {"sqlite.file", "sqlite.integrity"} <= differing(looked(subject))


def test_nothing_may_lie_beside_the_database(chain: Chain) -> None:
    """Whoever opens it reads a log there too, although each byte of the file is as it was."""
    chain.do(NOTES, SOME)
    chain.take()
    subject = chain.subject()
    (subject.restored / f"{FILE}-wal").write_bytes(b"log")
    checks = looked(subject)
    assert differing(checks) == {"sqlite.alone"}


def test_mutants_leave_the_restored_set_alone_and_nothing_behind(chain: Chain) -> None:
    """Not one byte and no time of it changes, nothing comes to lie beside it, and the copies are gone."""
    chain.do(NOTES, SOME)
    chain.take()
    chain.do("UPDATE notes SET said = 'changed' WHERE id = 2")
    chain.take()
    subject = chain.subject()
    for path in (subject.restored / FILE, *(link.directory for link in subject.links)):
        os.utime(path, (1, 1))
    before = (subject.restored / FILE).read_bytes()
    results = tried(SqliteExaminer(), subject)
    assert [one.name for one in results if one.survived] == []
    assert (subject.restored / FILE).read_bytes() == before
    assert (subject.restored / FILE).stat().st_mtime == 1
    assert [path.name for path in (subject.restored / FILE).parent.iterdir()] == ["nightcrew.db"]
    assert [*subject.scratch.iterdir()] == []


@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_log_beside_a_database_is_read_by_whoever_opens_it(tmp_path: Path, journal_mode: str) -> None:
    """So it is damage, although each byte of the file is as it was; a look at the file alone does not see it."""
    chain = Chain(tmp_path, journal_mode)
    chain.do(NOTES, SOME)
    chain.take()
    subject = chain.subject()
    tables: list[str] = []

    def opened(damaged: Subject, _progress: Progress) -> Sequence[Check]:
        with closing(sqlite3.connect(damaged.restored / FILE)) as connection:
            tables.extend(name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name"))
        return ()

    [mutant] = [one for one in mutants_of(subject, FILE, opened, silent) if one.name.endswith("beside-the-file")]
    mutant.trial()
    assert tables == ["added_by_a_log", "notes"]
    [mutant] = [one for one in SqliteExaminer().mutants(subject, silent) if one.name == mutant.name]
    assert [check.name for check in mutant.trial() if check.differences] == ["sqlite.alone"]


def test_what_is_not_there_cannot_be_damaged(chain: Chain) -> None:
    """Each mutant that is not possible says why; those of the bytes always are."""
    chain.do("CREATE TABLE vacant (id INTEGER)")
    chain.take()
    results = {one.name: one for one in tried(SqliteExaminer(), chain.subject())}
    reasons = {name: one.not_possible for name, one in results.items() if one.not_possible}
    assert reasons["sqlite.drop-a-row"] == "no table has a row that could be damaged so"
    assert reasons["sqlite.change-one-byte-of-a-text"] == "no row has a text that could be changed"
    assert reasons["sqlite.older-point"] == "the point is a full"
    assert {name for name, one in results.items() if one.is_killed} == results.keys() - reasons.keys()
    assert {"sqlite.flip-a-bit-of-the-file", "sqlite.truncate-the-file"} <= results.keys() - reasons.keys()


def test_an_earlier_point_that_is_the_same_file_is_no_mutant(chain: Chain) -> None:
    """The newest one that differs is taken; where none does, there is none."""
    chain.do(NOTES, SOME)
    chain.take()
    chain.take()
    subject = chain.subject()
    [older] = [one for one in tried(SqliteExaminer(), subject) if one.name == "sqlite.older-point"]
    assert older.not_possible == "no earlier point of the chain differs"


def test_a_drill_that_is_called_off_ends_and_leaves_nothing(chain: Chain) -> None:
    """In the middle of a copy, and while rows are read."""
    chain.do(NOTES, SOME)
    chain.take()
    subject = chain.subject()
    for phase in ("copying", "hashing"):
        stop = Heard(phase, raising(CancelledError("stop")))
        [first, *_] = SqliteExaminer().mutants(subject, stop)
        with pytest.raises(CancelledError):
            first.trial()
        assert [*subject.scratch.iterdir()] == []
