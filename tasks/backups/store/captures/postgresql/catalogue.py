"""What the catalogue says of the tables: which there are, how they are defined, what in them can be compared.

All of it is read as the snapshot of the transaction has it; `search_path` has to be empty, so that each name comes with
its schema.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

# What belongs to the server or to an extension is not ours: a dump leaves it out as well.
_OURS: Final = r"""
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend e
        WHERE e.objid = c.oid AND e.classid = 'pg_catalog.pg_class'::regclass AND e.deptype = 'e')
"""

_TABLES: Final = f"""
    SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {_OURS}
    ORDER BY c.relpages, n.nspname COLLATE "C", c.relname COLLATE "C"
"""  # noqa: S608  all of it is written here

# Columns that have an order which every server agrees on; all others would need a collation to be compared.
_COLUMNS: Final = """
    SELECT a.attrelid::bigint, a.attname::text, format('%I', a.attname), t.typname::text, p.oid IS NOT NULL
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_constraint p
        ON p.conrelid = a.attrelid AND p.contype = 'p' AND a.attnum = ANY (p.conkey)
    WHERE a.attnum > 0 AND NOT a.attisdropped AND (p.oid IS NOT NULL OR t.typname IN ('timestamptz', 'timestamp'))
    ORDER BY a.attrelid, a.attnum
"""
_AS_THEY_ARE: Final = frozenset({"int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz"})
_AS_TEXT: Final = frozenset({"text", "varchar", "bpchar", "uuid", "name"})

_FOREIGN_KEYS: Final = """
    SELECT k.conrelid::bigint,
        format(
            'SELECT count(*) FROM ONLY %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)',
            k.conrelid::regclass,
            (SELECT string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ' ORDER BY u.place)
             FROM unnest(k.conkey) WITH ORDINALITY u (number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
            k.confrelid::regclass,
            (SELECT string_agg(format('p.%I = c.%I', b.attname, a.attname), ' AND ' ORDER BY u.place)
             FROM unnest(k.conkey, k.confkey) WITH ORDINALITY u (number, other, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number
             JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.other))
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' ORDER BY k.conrelid, k.conname COLLATE "C"
"""

# The order of the columns counts, their numbers do not: a dump leaves out those that were dropped.
_DEFINITIONS: Final = (
    f"""
    SELECT c.oid::regclass::text, c.relkind::text, c.relpersistence::text, a.attname::text,
        pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), l.collname::text
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {_OURS}
    ORDER BY c.oid::regclass::text COLLATE "C", a.attnum
    """,  # noqa: S608  all of it is written here
    # Before 18 a column that may not be null has no constraint: 'n' would tell versions apart, and not tables.
    f"""
    SELECT c.oid::regclass::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype <> 'n' AND c.relpersistence <> 't' AND {_OURS}
    ORDER BY c.oid::regclass::text COLLATE "C", k.conname COLLATE "C"
    """,  # noqa: S608
    f"""
    SELECT pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND {_OURS}
    ORDER BY pg_catalog.pg_get_indexdef(i.indexrelid) COLLATE "C"
    """,  # noqa: S608
    f"""
    SELECT c.oid::regclass::text, g.tgname::text, g.tgenabled::text, pg_catalog.pg_get_triggerdef(g.oid)
    FROM pg_catalog.pg_trigger g
    JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT g.tgisinternal AND {_OURS}
    ORDER BY c.oid::regclass::text COLLATE "C", g.tgname COLLATE "C"
    """,  # noqa: S608
    f"""
    SELECT c.oid::regclass::text, pg_catalog.pg_get_viewdef(c.oid)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') AND {_OURS}
    ORDER BY c.oid::regclass::text COLLATE "C"
    """,  # noqa: S608
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column whose largest value is written down."""

    name: str
    expression: str
    """Gives its values in a form whose order every server agrees on."""
    is_instant: bool
    """Whether it holds instants with a zone."""


@dataclass(slots=True, kw_only=True)
class Relation:
    """A table with rows of its own; one that is partitioned has none, its partitions do."""

    name: str
    """With its schema, as people write it; `public` is left out."""
    quoted: str
    """The same as SQL writes it."""
    bare: str
    """Without its schema."""
    columns: list[Column] = field(default_factory=list)
    orphan_queries: list[str] = field(default_factory=list)
    """For each foreign key: counts the rows that point nowhere."""


def table_names(connection: Connection) -> list[str]:
    """Name the tables as SQL writes them, small ones first."""
    return [quoted for _, quoted, _, _ in connection.exec_driver_sql(_TABLES)]


def read_relations(connection: Connection) -> list[Relation]:
    """List the tables, small ones first."""
    relations = {
        oid: Relation(name=name.removeprefix("public."), quoted=quoted, bare=bare)
        for oid, quoted, name, bare in connection.exec_driver_sql(_TABLES)
    }
    for oid, name, quoted, type_name, _ in connection.exec_driver_sql(_COLUMNS):
        if oid in relations and (expression := _ordered(quoted, type_name)):
            column = Column(name=name, expression=expression, is_instant=type_name == "timestamptz")
            relations[oid].columns.append(column)
    for oid, query in connection.exec_driver_sql(_FOREIGN_KEYS):
        if oid in relations:
            relations[oid].orphan_queries.append(query)
    return list(relations.values())


def schema_sha256(connection: Connection) -> str:
    """Hash the definitions of tables, constraints, indexes, triggers and views."""
    lines: list[Sequence[object]] = []
    for query in _DEFINITIONS:
        lines += [list(row) for row in connection.exec_driver_sql(query)]
    return hashlib.sha256(json.dumps(lines, ensure_ascii=False).encode()).hexdigest()


def _ordered(quoted: str, type_name: str) -> str | None:
    if type_name in _AS_THEY_ARE:
        return quoted
    return f'{quoted}::text COLLATE "C"' if type_name in _AS_TEXT else None
