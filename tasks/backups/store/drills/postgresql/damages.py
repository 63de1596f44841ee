"""Statements that damage a PostgreSQL database, chosen from what is in it: pure, but for reading the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from sqlalchemy import Connection

    Plan = Callable[["Catalogue", Random], Sequence[str]]

_TABLES: Final = """
    SELECT format('%I.%I', n.nspname, c.relname), c.relname::text, c.oid::bigint, pg_relation_filepath(c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY 1
"""
_COLUMNS: Final = """
    SELECT a.attrelid::bigint, format('%I', a.attname), t.typname::text, t.typcategory::text,
        a.attidentity <> '' OR a.attgenerated <> '' OR EXISTS (
            SELECT FROM pg_catalog.pg_constraint k
            WHERE k.conrelid = a.attrelid AND k.contype IN ('p', 'u', 'f', 'c') AND a.attnum = ANY (k.conkey))
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum
"""
_INDEXES: Final = """
    SELECT i.indrelid::bigint, i.indexrelid::regclass::text, i.indisprimary OR EXISTS (
        SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid), pg_relation_filepath(i.indexrelid)
    FROM pg_catalog.pg_index i ORDER BY 2
"""
_KEYS: Final = """
    SELECT k.conrelid::bigint, format('%I', a.attname), format('%I', k.conname), t.typcategory::text
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 ORDER BY 3
"""
_VIEWS: Final = "SELECT format('%I.%I', schemaname, viewname) FROM pg_catalog.pg_views WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' ORDER BY 1"  # noqa: E501
_NO_TRIGGERS: Final = "SET LOCAL session_replication_role = replica"
"""Triggers and foreign keys would mend or refuse the damage."""


class NothingToDamageError(Exception):
    """There is nothing that could be damaged in this way; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    category: str
    """As PostgreSQL sorts its types: S text, N numbers."""
    is_bound: bool
    """Part of a constraint, or made by the server: it cannot be changed at will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table with rows."""

    name: str
    bare: str
    rows: int
    columns: Sequence[Column]
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What there is to damage."""

    filled: Sequence[Relation]
    """Tables with rows."""
    indexes: Sequence[tuple[str, bool, str | None]]
    """Name, whether a constraint owns it, file; of tables with rows alone."""
    foreign_keys: Sequence[tuple[str, str, str, str]]
    """Table, column, constraint, category of the column's type; of tables with rows alone."""
    views: Sequence[str]

    @property
    def files(self) -> Mapping[str, str | None]:
        """Give a file of each sort, relative to the data directory; None: there is none."""
        table = max(self.filled, key=lambda one: one.rows, default=None)
        return {
            "a-table": None if table is None else table.file,
            "an-index": next((file for _, _, file in self.indexes), None),
        }

    @classmethod
    def read(cls, connection: Connection) -> Catalogue:
        """Read it, in the transaction that the connection is in."""
        columns: dict[int, list[Column]] = {}
        for oid, name, kind, category, is_bound in connection.exec_driver_sql(_COLUMNS):
            columns.setdefault(oid, []).append(Column(name=name, type=kind, category=category, is_bound=is_bound))
        filled: dict[int, Relation] = {}
        for name, bare, oid, file in connection.exec_driver_sql(_TABLES).all():
            rows: Any = connection.exec_driver_sql(f"SELECT count(*) FROM ONLY {name}").scalar()  # noqa: S608  quoted
            if rows:
                filled[oid] = Relation(name=name, bare=bare, rows=rows, columns=columns.get(oid, ()), file=file)
        keys = connection.exec_driver_sql(_KEYS).all()
        return cls(
            filled=tuple(filled.values()),
            indexes=tuple(
                (name, owned, file)
                for oid, name, owned, file in connection.exec_driver_sql(_INDEXES).all()
                if oid in filled
            ),
            foreign_keys=tuple(
                (filled[oid].name, column, key, category) for oid, column, key, category in keys if oid in filled
            ),
            views=tuple(connection.exec_driver_sql(_VIEWS).scalars()),
        )

    def table(self, random: Random, *, of_rows: int = 1) -> Relation:
        """Choose a table with so many rows.

        Raises:
            NothingToDamageError: there is none.
        """
        found = [one for one in self.filled if one.rows >= of_rows and one.bare != "alembic_version"]
        if not found:
            msg = f"no table has {of_rows} rows or more"
            raise NothingToDamageError(msg)
        return random.choice(found)

    def column(self, random: Random, category: str, *, of_rows: int = 1) -> tuple[Relation, Column]:
        """Choose a column of a type, bound by no constraint.

        Raises:
            NothingToDamageError: there is none.
        """
        found = [
            (one, column)
            for one in self.filled
            for column in one.columns
            if one.rows >= of_rows
            and column.category == category
            and not column.is_bound
            and one.bare != "alembic_version"
        ]
        if not found:
            msg = f"no table with rows has a free column of the category {category}"
            raise NothingToDamageError(msg)
        return random.choice(found)


def _row(table: Relation, random: Random) -> str:
    """Choose a row by its place, which is its own name in a database that nobody else writes to."""
    return f"ctid = (SELECT ctid FROM ONLY {table.name} OFFSET {random.randrange(table.rows)} LIMIT 1)"  # noqa: S608  quoted


def _drop_a_row(catalogue: Catalogue, random: Random) -> Sequence[str]:
    table = catalogue.table(random)
    return [_NO_TRIGGERS, f"DELETE FROM ONLY {table.name} WHERE {_row(table, random)}"]  # noqa: S608  quoted


def _change_a_text(catalogue: Catalogue, random: Random) -> Sequence[str]:
    table, column = catalogue.column(random, "S")
    new = f"CASE WHEN left({column.name}, 1) = 'a' THEN 'b' ELSE 'a' END || substr({column.name}, 2)"
    return [
        _NO_TRIGGERS,
        f"UPDATE ONLY {table.name} SET {column.name} = coalesce({new}, 'a') WHERE {_row(table, random)}",  # noqa: S608
    ]


def _change_a_number(catalogue: Catalogue, random: Random) -> Sequence[str]:
    table, column = catalogue.column(random, "N")
    change = f"SET {column.name} = CASE WHEN {column.name} = 0 THEN 1 ELSE 0 END"
    return [_NO_TRIGGERS, f"UPDATE ONLY {table.name} {change} WHERE {_row(table, random)}"]


def _empty_a_table(catalogue: Catalogue, random: Random) -> Sequence[str]:
    return [_NO_TRIGGERS, f"DELETE FROM ONLY {catalogue.table(random).name}"]  # noqa: S608  quoted


def _drop_a_table(catalogue: Catalogue, random: Random) -> Sequence[str]:
    return [f"DROP TABLE {catalogue.table(random).name} CASCADE"]


def _drop_an_index(catalogue: Catalogue, random: Random) -> Sequence[str]:
    free = [name for name, is_owned, _ in catalogue.indexes if not is_owned]
    if not free:
        msg = "every index belongs to a constraint"
        raise NothingToDamageError(msg)
    return [f"DROP INDEX {random.choice(free)} CASCADE"]


def _break_a_foreign_key(catalogue: Catalogue, random: Random) -> Sequence[str]:
    values = {"N": "-987654321", "S": "'nowhere'"}
    found = [one for one in catalogue.foreign_keys if one[3] in values]
    if not found:
        msg = "no table with rows has a foreign key of one column"
        raise NothingToDamageError(msg)
    table, column, _, category = random.choice(found)
    rows = next(one for one in catalogue.filled if one.name == table)
    return [_NO_TRIGGERS, f"UPDATE ONLY {table} SET {column} = {values[category]} WHERE {_row(rows, random)}"]  # noqa: S608


def _drop_a_constraint(catalogue: Catalogue, random: Random) -> Sequence[str]:
    if not catalogue.foreign_keys:
        msg = "no table with rows has a foreign key"
        raise NothingToDamageError(msg)
    table, _, constraint, _ = random.choice(catalogue.foreign_keys)
    return [f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"]


def _drop_a_view(catalogue: Catalogue, random: Random) -> Sequence[str]:
    if not catalogue.views:
        msg = "there is no view"
        raise NothingToDamageError(msg)
    return [f"DROP VIEW {random.choice(catalogue.views)} CASCADE"]


def _make_an_index_invalid(catalogue: Catalogue, random: Random) -> Sequence[str]:
    if not catalogue.indexes:
        msg = "no table with rows has an index"
        raise NothingToDamageError(msg)
    name = random.choice(catalogue.indexes)[0].replace("'", "''")
    return [f"UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass"]  # noqa: S608


def _add_a_table(_catalogue: Catalogue, _random: Random) -> Sequence[str]:
    return ["CREATE TABLE public.nightcrew_stranger (id integer)"]


def _change_the_migration_head(catalogue: Catalogue, _random: Random) -> Sequence[str]:
    for table in catalogue.filled:
        if table.bare == "alembic_version":
            return [f"UPDATE ONLY {table.name} SET version_num = 'other'"]  # noqa: S608  quoted
    msg = "the database has no migrations of ours"
    raise NothingToDamageError(msg)


def _move_the_newest_instant(catalogue: Catalogue, random: Random) -> Sequence[str]:
    found = [
        (one, column)
        for one in catalogue.filled
        for column in one.columns
        if column.type == "timestamptz" and not column.is_bound
    ]
    if not found:
        msg = "no table with rows has instants"
        raise NothingToDamageError(msg)
    table, column = random.choice(found)
    change = (
        f"SET {column.name} = '2000-01-01Z' WHERE {column.name} = (SELECT max({column.name}) FROM ONLY {table.name})"  # noqa: S608
    )
    return [_NO_TRIGGERS, f"UPDATE ONLY {table.name} {change} OR {column.name} IS NULL"]


BY_STATEMENTS: Final[Mapping[str, Plan]] = {
    "drop-a-row": _drop_a_row,
    "change-one-letter-of-a-text": _change_a_text,
    "change-a-number": _change_a_number,
    "empty-a-table": _empty_a_table,
    "drop-a-table": _drop_a_table,
    "add-a-table": _add_a_table,
    "drop-an-index": _drop_an_index,
    "make-an-index-invalid": _make_an_index_invalid,
    "break-a-foreign-key": _break_a_foreign_key,
    "drop-a-constraint": _drop_a_constraint,
    "drop-a-view": _drop_a_view,
    "change-the-migration-head": _change_the_migration_head,
    "move-the-newest-instant": _move_the_newest_instant,
}
