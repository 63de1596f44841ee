"""Ways to damage a SQLite database by statements, each planned on the restored database and done to a copy.

A plan is made by reading alone: which table, which row, which value. What is chosen depends on the point and on nothing
else, so that a drill that is done again damages the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tasks.backups.store.captures.sqlite_orphans import quoted

if TYPE_CHECKING:
    import random
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

Statement = tuple[str, tuple[Any, ...]]
Plan = tuple[Statement, ...]

_T = TypeVar("_T")

_WRITE_SCHEMA: Final[Statement] = ("PRAGMA writable_schema = ON", ())


class NothingToDamageError(Exception):
    """The database has nothing that could be damaged in this way; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    """Those that are stored and can be written."""
    free: tuple[str, ...]
    """Those of them in which no two rows must differ, and which are no key."""
    key: str | None
    """The column that is the row's number, if there is one."""

    def __str__(self) -> str:
        return quoted(self.name)


class Planner:
    """Chooses what is damaged."""

    def __init__(self, connection: sqlite3.Connection, chance: random.Random) -> None:
        """Read this database, and draw from that."""
        self._connection, self._chance = connection, chance

    def drop_row(self) -> Plan:
        """Delete a row."""
        table = self._filled_table()
        return ((f"DELETE FROM {table} WHERE _rowid_ = ?", (self._row(table),)),)  # noqa: S608

    def add_row(self) -> Plan:
        """Add one that is as like another as it can be: only keys and what must not be there twice differ."""
        table = self._filled_table(self._can_be_doubled)
        [(largest,)] = self._ask(f"SELECT max(_rowid_) FROM {table}")  # noqa: S608
        columns = [one for one in table.columns if one != table.key]
        values = [quoted(one) if one in table.free else f"{quoted(one)} || '~'" for one in columns]
        into = ", ".join(["_rowid_", *map(quoted, columns)])
        statement = f"INSERT INTO {table} ({into}) SELECT {', '.join(['?', *values])} FROM {table} WHERE _rowid_ = ?"  # noqa: S608
        return ((statement, (largest + 1, self._row(table))),)

    def empty_table(self) -> Plan:
        """Delete all rows of a table."""
        return ((f"DELETE FROM {self._filled_table()}", ()),)  # noqa: S608

    def drop_table(self) -> Plan:
        """Drop a table that has rows."""
        return ((f"DROP TABLE {self._filled_table()}", ()),)

    def change_text_byte(self) -> Plan:
        """Change the lowest bit of one letter: the text keeps its length, and looks nearly as before."""
        is_letters = "typeof({0}) = 'text' AND {0} GLOB '*[a-zA-Z0-9]*'"
        table, column = self._column("a text", is_letters)
        row = self._row(table, is_letters.format(quoted(column)))
        [(text,)] = self._ask(f"SELECT {quoted(column)} FROM {table} WHERE _rowid_ = ?", row)  # noqa: S608
        at = self._chance.choice([at for at, sign in enumerate(text) if sign.isascii() and sign.isalnum()])
        return (self._set(table, column, row, text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]),)

    def change_integer(self) -> Plan:
        """Add one to an integer that is no key."""
        is_small = "typeof({0}) = 'integer' AND abs({0}) < 1000000000000000000"
        table, column = self._column("an integer", is_small)
        row = self._row(table, is_small.format(quoted(column)))
        return ((f"UPDATE {table} SET {quoted(column)} = {quoted(column)} + 1 WHERE _rowid_ = ?", (row,)),)  # noqa: S608

    def change_real(self) -> Plan:
        """Change one to the next number that there is."""
        is_finite = "typeof({0}) = 'real' AND abs({0}) < 1e308"
        table, column = self._column("a real number", is_finite)
        row = self._row(table, is_finite.format(quoted(column)))
        [(number,)] = self._ask(f"SELECT {quoted(column)} FROM {table} WHERE _rowid_ = ?", row)  # noqa: S608
        return (self._set(table, column, row, math.nextafter(number, math.inf)),)

    def swap_values(self) -> Plan:
        """Swap two values of a column: each sum and each count stays as it is."""
        table, column, one, other = self._two_rows()
        name = quoted(column)
        [(first,)] = self._ask(f"SELECT {name} FROM {table} WHERE _rowid_ = ?", one)  # noqa: S608
        [(second,)] = self._ask(f"SELECT {name} FROM {table} WHERE _rowid_ = ?", other)  # noqa: S608
        return (self._set(table, column, one, second), self._set(table, column, other, first))

    def overwrite_row(self) -> Plan:
        """Have one row say what another says: they are as many as before."""
        table, _, one, other = self._two_rows()
        names = ", ".join(map(quoted, table.free))
        statement = f"UPDATE {table} SET ({names}) = (SELECT {names} FROM {table} WHERE _rowid_ = ?) WHERE _rowid_ = ?"  # noqa: S608
        return ((statement, (other, one)),)

    def drop_index(self) -> Plan:
        """Drop an index."""
        return self._drop("index")

    def drop_trigger(self) -> Plan:
        """Drop a trigger."""
        return self._drop("trigger")

    def drop_view(self) -> Plan:
        """Drop a view."""
        return self._drop("view")

    def swap_indexes(self) -> Plan:
        """Have two indexes lead to the pages of each other: all rows and all definitions stay as they are."""
        found = self._ask("SELECT name, rootpage, tbl_name FROM sqlite_schema WHERE type = 'index' ORDER BY name")
        filled = {table.name for table in self._tables() if self._has(table, "1")}
        one = self._drawn([index for index in found if index[2] in filled], "there is no index of a table with rows")
        other = self._drawn([index for index in found if index != one], "there are no two indexes")
        statement = "UPDATE sqlite_schema SET rootpage = ? WHERE name = ?"
        return (_WRITE_SCHEMA, (statement, (other[1], one[0])), (statement, (one[1], other[0])))

    def break_foreign_key(self) -> Plan:
        """Have a row point to one that is not there."""
        found = self._ask(
            'SELECT s.name, f."from" FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f'
            " WHERE s.type = 'table' ORDER BY 1, 2"
        )
        tables = {table.name: table for table in self._tables()}
        pairs = [(tables[name], column) for name, column in found if name in tables and column in tables[name].columns]
        there = [(table, column) for table, column in pairs if self._has(table, f"{quoted(column)} IS NOT NULL")]
        table, column = self._drawn(there, "no row points to another one by a foreign key")
        row = self._row(table, f"{quoted(column)} IS NOT NULL")
        nowhere = -self._chance.randrange(1 << 40, 1 << 41)
        return (self._set(table, column, row, nowhere),)

    def change_migration_head(self) -> Plan:
        """Have it be of another release."""
        if not self._ask("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'alembic_version'"):
            raise NothingToDamageError("there is no table of migrations")
        if not self._ask("SELECT 1 FROM alembic_version LIMIT 1"):
            raise NothingToDamageError("no migration was made")
        return (("UPDATE alembic_version SET version_num = version_num || '0'", ()),)

    def move_log_position(self) -> Plan:
        """Have the usage log begin elsewhere: counts would be lost, or counted twice."""
        if not self._ask("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'usage_offsets'"):
            raise NothingToDamageError("there is no usage log")
        found = self._ask("SELECT partition FROM usage_offsets ORDER BY partition")
        [partition] = self._drawn(found, "nothing of the usage log was counted yet")
        return (("UPDATE usage_offsets SET last_id = last_id || '0' WHERE partition = ?", (partition,)),)

    def move_newest(self) -> Plan:
        """Move the largest instant of a table by a microsecond, to the past."""
        pairs = [(table, column) for table in self._tables() for column in table.free if column.endswith("_at")]
        is_instant = "typeof({0}) = 'integer'"
        there = [(table, column) for table, column in pairs if self._has(table, is_instant.format(quoted(column)))]
        table, column = self._drawn(there, "no row has an instant")
        name = quoted(column)
        statement = f"UPDATE {table} SET {name} = {name} - 1 WHERE {name} = (SELECT max({name}) FROM {table})"  # noqa: S608
        return ((statement, ()),)

    def _drop(self, kind: str) -> Plan:
        statement = "SELECT name FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL ORDER BY name"
        found = [name for (name,) in self._ask(statement, kind)]
        return ((f"DROP {kind.upper()} {quoted(self._drawn(found, f'there is no {kind}'))}", ()),)

    def _set(self, table: _Table, column: str, row: int, value: object) -> Statement:
        return (f"UPDATE {table} SET {quoted(column)} = ? WHERE _rowid_ = ?", (value, row))  # noqa: S608

    def _tables(self) -> list[_Table]:
        """Give the tables of the application whose rows have numbers."""
        found = self._ask(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT wr"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        return [self._table(name) for (name,) in found]

    def _table(self, name: str) -> _Table:
        rows = self._ask("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", name)
        columns = tuple(row[0] for row in rows if not row[3])
        keys = [row for row in rows if row[2]]
        number = keys[0][0] if len(keys) == 1 and keys[0][1].upper() == "INTEGER" else None
        single = self._ask(
            "SELECT part.name FROM pragma_index_list(?) AS listed, pragma_index_info(listed.name) AS part"
            ' WHERE listed."unique"',
            name,
        )
        bound = {row[0] for row in keys} | {one for (one,) in single}
        free = () if None in bound else tuple(one for one in columns if one not in bound)
        return _Table(name=name, columns=columns, free=free, key=number)

    def _filled_table(self, fits: Callable[[_Table], bool] = lambda _: True) -> _Table:
        there = [table for table in self._tables() if self._has(table, "1") and fits(table)]
        return self._drawn(there, "no table has a row that could be damaged so")

    def _can_be_doubled(self, table: _Table) -> bool:
        """Say whether a row stays one of its own when its keys get a sign more, which numbers do not bear."""
        bound = [one for one in table.columns if one not in table.free and one != table.key]
        return not any(self._has(table, f"typeof({quoted(one)}) IS NOT 'text'") for one in bound)

    def _column(self, what: str, condition: str) -> tuple[_Table, str]:
        pairs = [(table, column) for table in self._tables() for column in table.free]
        there = [(table, column) for table, column in pairs if self._has(table, condition.format(quoted(column)))]
        return self._drawn(there, f"no row has {what} that could be changed")

    def _two_rows(self) -> tuple[_Table, str, int, int]:
        """Give a column, and two rows that do not have the same there, and not in all others.

        Without these others, two rows that swap their values change places, which is no damage.
        """
        pairs = [(table, column) for table in self._tables() for column in table.free]
        self._chance.shuffle(pairs)
        for table, column in pairs:
            if not self._has(table, "1"):
                continue
            one = self._row(table)
            differ = {
                name: f"{quoted(name)} IS NOT (SELECT {quoted(name)} FROM {table} WHERE _rowid_ = {one})"  # noqa: S608
                for name in table.columns
            }
            elsewhere = " OR ".join(text for name, text in differ.items() if name != column) or "0"
            condition = f"{differ[column]} AND ({elsewhere})"
            if self._has(table, condition):
                return table, column, one, self._row(table, condition)
        raise NothingToDamageError("no two rows differ in what could be swapped")

    def _has(self, table: _Table, condition: str) -> bool:
        return bool(self._ask(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"))  # noqa: S608

    def _row(self, table: _Table, condition: str = "1") -> int:
        """Choose a row, without sorting the table: the next one from some number on."""
        [(smallest, largest)] = self._ask(f"SELECT min(_rowid_), max(_rowid_) FROM {table}")  # noqa: S608
        begin = self._chance.randint(smallest, largest)
        for side in (">= ? ORDER BY _rowid_", "< ? ORDER BY _rowid_ DESC"):
            statement = f"SELECT _rowid_ FROM {table} WHERE {condition} AND _rowid_ {side} LIMIT 1"  # noqa: S608
            if found := self._ask(statement, begin):
                return int(found[0][0])
        msg = f"{table.name} has no row that could be damaged so"
        raise NothingToDamageError(msg)

    def _drawn(self, found: Sequence[_T], nothing: str) -> _T:
        if not found:
            raise NothingToDamageError(nothing)
        return self._chance.choice(found)

    def _ask(self, statement: str, *parameters: object) -> list[Any]:
        return self._connection.execute(statement, parameters).fetchall()


BY_STATEMENTS: Final[Mapping[str, Callable[[Planner], Plan]]] = {
    "drop-a-row": Planner.drop_row,
    "add-a-row": Planner.add_row,
    "empty-a-table": Planner.empty_table,
    "drop-a-table": Planner.drop_table,
    "change-one-byte-of-a-text": Planner.change_text_byte,
    "change-an-integer": Planner.change_integer,
    "change-a-real": Planner.change_real,
    "swap-two-values": Planner.swap_values,
    "overwrite-a-row-by-another": Planner.overwrite_row,
    "drop-an-index": Planner.drop_index,
    "drop-a-trigger": Planner.drop_trigger,
    "drop-a-view": Planner.drop_view,
    "swap-two-indexes": Planner.swap_indexes,
    "break-a-foreign-key": Planner.break_foreign_key,
    "change-the-migration-head": Planner.change_migration_head,
    "move-a-log-position": Planner.move_log_position,
    "move-the-newest-instant": Planner.move_newest,
}


def damage(connection: sqlite3.Connection, plan: Sequence[Statement]) -> None:
    """Do what was planned to a copy, with nobody's triggers and constraints in the way.

    A trigger may refuse the damage or mend it, so rows are changed while there is none; each is back afterwards, as it
    was: what is to be noticed are the rows.

    Raises:
        sqlite3.Error: it cannot be done.
    """
    for pragma in ("synchronous = OFF", "foreign_keys = OFF", "ignore_check_constraints = ON"):
        connection.execute(f"PRAGMA {pragma}")
    triggers = [] if plan[0][0].startswith("DROP") else _hidden_triggers(connection)
    connection.execute("BEGIN")
    for statement, parameters in plan:
        connection.execute(statement, parameters)
    connection.execute("COMMIT")
    if triggers:
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", triggers)


def _hidden_triggers(connection: sqlite3.Connection) -> list[Any]:
    found = connection.execute("SELECT * FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    if found:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'trigger'")
        connection.execute("PRAGMA writable_schema = RESET")  # it reads the definitions again
    return found
