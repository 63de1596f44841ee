"""The count of orphans is that of SQLite's own check, whatever children and parents look like."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.store.captures.sqlite_orphans import count_orphans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.fingerprints import SqlValue

PARENTS = ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY DESC", "INT PRIMARY KEY", "TEXT PRIMARY KEY", "REAL PRIMARY KEY")
CHILDREN = ("", "INTEGER", "TEXT", "TEXT COLLATE NOCASE", "REAL", "BLOB", "TEXT COLLATE RTRIM")
INDEXES = (
    "",
    "CREATE INDEX i ON child (k)",
    "CREATE INDEX i ON child (k) WHERE k > 1",
    "CREATE INDEX i ON child (n, k)",
)
VALUES = (None, 1, 2, 3, 2.0, 1.5, "1", "01", "2 ", "a", "A", "1e0", b"1", b"", -1, 2**62)

values = st.lists(st.sampled_from(VALUES), max_size=12)


@given(parents=values, children=values, drawn=st.data())
def test_it_is_what_the_check_of_sqlite_finds(
    parents: Sequence[SqlValue], children: Sequence[SqlValue], drawn: st.DataObject
) -> None:
    """All affinities, collations, and indexes that help and that do not."""
    parent, child, index = (drawn.draw(st.sampled_from(kinds)) for kinds in (PARENTS, CHILDREN, INDEXES))
    rowid = drawn.draw(st.sampled_from(("", " WITHOUT ROWID")))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE parent (id {parent}){rowid}")
        connection.execute(f"CREATE TABLE child (n INTEGER, k {child} REFERENCES parent)")
        connection.execute(index)
        connection.executemany("INSERT OR IGNORE INTO parent VALUES (?)", _accepted(connection, parents))
        connection.executemany("INSERT INTO child VALUES (0, ?)", [(value,) for value in children])
        assert count_orphans(connection, "child") == _found_by_sqlite(connection, "child")


@pytest.mark.parametrize(
    "child",
    [
        "a INTEGER REFERENCES parent (id), b INTEGER REFERENCES parent",
        "a INTEGER, b INTEGER, FOREIGN KEY (a, b) REFERENCES pair",
        "a INTEGER REFERENCES parent, b INTEGER REFERENCES gone",
        "a INTEGER PRIMARY KEY REFERENCES parent, b INTEGER REFERENCES child",
        "a INTEGER REFERENCES parent (other), b INTEGER",
        "a INTEGER, b INTEGER",
    ],
)
def test_several_keys_and_keys_of_several_columns(child: str) -> None:
    """Each key that is broken counts, also where a row breaks two."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE child ({child})")
        connection.executescript(
            """
            CREATE TABLE parent (id INTEGER PRIMARY KEY, other INTEGER UNIQUE);
            CREATE TABLE pair (x INTEGER, y INTEGER, PRIMARY KEY (x, y));
            CREATE INDEX first ON child (a);
            CREATE INDEX second ON child (b);
            INSERT INTO parent VALUES (1, 11), (2, 12);
            INSERT INTO pair VALUES (1, 2), (3, 3);
            INSERT INTO child VALUES (1, 2), (3, 3), (2, NULL), (11, 12), (9, 9), (12, 9);
            """
        )
        assert count_orphans(connection, "child") == _found_by_sqlite(connection, "child")


def test_a_quick_count_is_taken_where_it_can_be() -> None:
    """The pragma reads all rows of the child; an index over its key is enough."""
    statements: list[str] = []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE child (k INTEGER REFERENCES parent)")
        connection.set_trace_callback(statements.append)
        count_orphans(connection, "child")
        assert any("foreign_key_check" in statement for statement in statements)
        connection.execute("CREATE INDEX i ON child (k)")
        statements.clear()
        count_orphans(connection, "child")
        assert not any("foreign_key_check" in statement for statement in statements)


def test_names_are_taken_as_they_are() -> None:
    """Quotation marks and key words among them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE "the ""parent" ("group" INTEGER PRIMARY KEY)')
        connection.execute('CREATE TABLE "order" ("a ""b" INTEGER REFERENCES "the ""parent")')
        connection.execute('CREATE INDEX "of" ON "order" ("a ""b")')
        connection.execute('INSERT INTO "order" VALUES (1), (1), (NULL)')
        assert count_orphans(connection, "order") == 2


def _accepted(connection: sqlite3.Connection, values: Sequence[SqlValue]) -> list[tuple[SqlValue]]:
    """Leave out what the key of the parent refuses."""
    accepted: list[tuple[SqlValue]] = []
    for value in values:
        connection.execute("SAVEPOINT trial")
        try:
            connection.execute("INSERT OR IGNORE INTO parent VALUES (?)", (value,))
            accepted.append((value,))
        except sqlite3.IntegrityError:
            pass
        connection.execute("ROLLBACK TO trial")
        connection.execute("RELEASE trial")
    return accepted


def _found_by_sqlite(connection: sqlite3.Connection, table: str) -> int:
    return len(connection.execute(f"PRAGMA foreign_key_check({table})").fetchall())
