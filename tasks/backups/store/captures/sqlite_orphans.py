"""How many rows of a table point to a row that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3

_IN_ORDER: Final = (
    "SELECT ifnull(sum(rows), 0) FROM (SELECT {child} AS id, count(*) AS rows FROM {table} GROUP BY 1) AS there"
    " WHERE id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {parent} AS parent WHERE parent.{key} = there.id)"
)


class _ForeignKey(NamedTuple):
    parent: str
    child: str
    key: str


def count_orphans(connection: sqlite3.Connection, table: str) -> int:
    """Count what `PRAGMA foreign_key_check` finds in a table.

    That reads the rows as they lie, and looks a parent up for each. Where all parents have an integer for their key and
    each child an index, as tables of most applications do, the index gives the children sorted, and each parent is
    looked up once: a third of the CPU on 1.7 million rows. An integer key is compared as the pragma does it, whatever
    the type and the collation of the child; everything else is left to the pragma.

    Raises:
        sqlite3.OperationalError: "foreign key mismatch": the schema contradicts itself.
    """
    keys = _integer_keys(connection, table)
    if keys is None:
        return _one(connection, "SELECT count(*) FROM pragma_foreign_key_check(?)", table)
    return sum(_one(connection, _statement(table, key)) for key in keys)


def _integer_keys(connection: sqlite3.Connection, table: str) -> list[_ForeignKey] | None:
    """Give the foreign keys of a table, or None if one of them is not as simple as that."""
    found = connection.execute('SELECT seq, "table", "from", "to" FROM pragma_foreign_key_list(?)', (table,)).fetchall()
    keys = []
    for sequence, parent, child, named in found:
        key = _integer_key(connection, parent)
        if sequence or key is None or named not in {None, key} or not _is_indexed(connection, table, child):
            return None
        keys.append(_ForeignKey(parent, child, key))
    return keys


def _integer_key(connection: sqlite3.Connection, table: str) -> str | None:
    found = connection.execute("SELECT name, type FROM pragma_table_info(?) WHERE pk", (table,)).fetchall()
    return found[0][0] if len(found) == 1 and found[0][1].upper() == "INTEGER" else None


def _is_indexed(connection: sqlite3.Connection, table: str, column: str) -> bool:
    statement = (
        "SELECT count(*) FROM pragma_index_list(?) AS listed, pragma_index_info(listed.name) AS part"
        " WHERE NOT listed.partial AND part.seqno = 0 AND part.name = ?"
    )
    return bool(_one(connection, statement, table, column))


def _statement(table: str, key: _ForeignKey) -> str:
    return _IN_ORDER.format(
        table=quoted(table), child=quoted(key.child), parent=quoted(key.parent), key=quoted(key.key)
    )


def _one(connection: sqlite3.Connection, statement: str, *parameters: str) -> int:
    return int(connection.execute(statement, parameters).fetchone()[0])


def quoted(name: str) -> str:
    """Write an identifier so that SQLite takes it for one."""
    return '"' + name.replace('"', '""') + '"'
