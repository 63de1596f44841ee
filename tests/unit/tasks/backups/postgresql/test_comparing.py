"""Equality of a restored database with what was written down has no tolerance."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.backups.manifest import Table
from tasks.backups.postgresql.comparing import differences, is_same
from tests.unit.tasks.backups.postgresql.servers import database

_TABLE = Table(name="counts", rows=3, fingerprint="pg1:0a", newest={"id": "3"}, orphans=0)
_EXPECTED = database().model_copy(update={"tables": (_TABLE, Table(name="empty", rows=0, fingerprint="pg1:00"))})


def test_the_same_is_equal() -> None:
    """Nothing differs, wherever it was restored and however it was taken."""
    elsewhere = _EXPECTED.model_copy(
        update={"server_version": "18.9", "method": "dump", "details": {}, "file_bytes": 5}
    )
    assert differences(_EXPECTED, elsewhere) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 2}, "counts has 2 rows instead of 3"),
        ({"fingerprint": "pg1:0b"}, "counts has the right number of rows, and other content"),
        ({"newest": {"id": "4"}}, "counts ends elsewhere in id"),
        ({"newest": {}}, "counts ends elsewhere in id"),
        ({"orphans": 1}, "counts has 1 rows that point nowhere instead of 0"),
        ({"name": "sums"}, "counts is missing"),
    ],
)
def test_a_difference_in_a_table_is_named(change: dict[str, Any], words: str) -> None:
    """Each part of what is known of a table can fail a restore."""
    changed = _TABLE.model_copy(update=change)
    found = _EXPECTED.model_copy(update={"tables": (changed, _EXPECTED.tables[1])})
    assert words in differences(_EXPECTED, found)
    assert is_same(_TABLE, changed) is (list(change) == ["name"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_sha256": "1" * 64}, "definitions"),
        ({"migration_head": None}, "migration is None instead of 0003"),
        ({"tables": ()}, "counts is missing"),
        ({"tables": (*_EXPECTED.tables, Table(name="more", rows=0))}, "more was not there"),
    ],
)
def test_a_difference_in_the_database_is_named(change: dict[str, Any], words: str) -> None:
    """So can what is known of all of it."""
    assert words in " ".join(differences(_EXPECTED, _EXPECTED.model_copy(update=change)))


def test_what_was_not_read_is_not_compared() -> None:
    """A large increment knows rows and ends: content and foreign keys then rest on the log."""
    unread = _TABLE.model_copy(update={"fingerprint": None, "orphans": None})
    expected = _EXPECTED.model_copy(update={"tables": (unread,)})
    assert differences(expected, expected.model_copy(update={"tables": (_TABLE,)})) == []
