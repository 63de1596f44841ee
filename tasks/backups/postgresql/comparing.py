"""Equality of a restored database with what was written down when it was captured. Nothing is nearly equal."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.backups.manifest import Database, Table

_SHOWN: Final = 5


def differences(expected: Database, found: Database) -> list[str]:
    """Name what differs, a few of it if it is much; an empty list is equality.

    What was not read when it was captured (`Database.unread`) is not compared.
    """
    return list(islice(_differences(expected, found), _SHOWN))


def is_same(expected: Table, found: Table) -> bool:
    """Tell whether a table is what it was."""
    return next(_in_table(expected, found), None) is None


def _differences(expected: Database, found: Database) -> Iterator[str]:
    if expected.migration_head != found.migration_head:
        yield f"migration is {found.migration_head} instead of {expected.migration_head}"
    there = {table.name: table for table in found.tables}
    for table in expected.tables:
        if table.name not in there:
            yield f"{table.name} is missing"
        else:
            yield from _in_table(table, there.pop(table.name))
    yield from (f"{name} was not there" for name in there)
    if expected.schema_sha256 != found.schema_sha256:
        yield "definitions of tables, indexes, constraints or triggers are not the same"


def _in_table(expected: Table, found: Table) -> Iterator[str]:
    if expected.rows != found.rows:
        yield f"{expected.name} has {found.rows} rows instead of {expected.rows}"
    elif expected.fingerprint is not None and expected.fingerprint != found.fingerprint:
        yield f"{expected.name} has the right number of rows, and other content"
    if expected.newest != found.newest:
        columns = sorted(name for name, value in expected.newest.items() if found.newest.get(name) != value)
        yield f"{expected.name} ends elsewhere in {', '.join(columns) or 'columns that were not there'}"
    if expected.orphans is not None and expected.orphans != found.orphans:
        yield f"{expected.name} has {found.orphans} rows that point nowhere instead of {expected.orphans}"
