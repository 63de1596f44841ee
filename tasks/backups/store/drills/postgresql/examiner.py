"""A restored PostgreSQL database, compared with its manifest for equality.

postgresql.schema          definitions of tables, constraints, indexes, triggers and views
postgresql.migration-head
postgresql.content         the rows of each table: counted and hashed, or of a large database counted
postgresql.content.<name>  an empty table: 0 rows were checked there, which is no pass
postgresql.newest          the largest keys and instants
postgresql.foreign-keys    how many rows point nowhere, by table
postgresql.indexes         amcheck: each index has every row of its table, in order, and each table can be read
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from tasks.backups.drills.verdicts import Check
from tasks.backups.store.captures.postgresql.expectations import Reading
from tasks.backups.store.captures.postgresql.private_server import RestoredServerError
from tasks.backups.store.captures.postgresql.running import RefusedError
from tasks.backups.store.captures.postgresql.sessions import opened_session, patiently
from tasks.backups.store.drills.postgresql.mutants import DamagedPageError, damage_in, mutants_of
from tasks.backups.store.drills.postgresql.serving import NothingToServeError, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from tasks.backups.drills.subjects import Mutant, Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import Database, Table
    from tasks.backups.staging import Progress

_MOST_SAID: Final = 10
_OURS: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'"
_INDEXES: Final = f"""
    SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND {_OURS} ORDER BY 1
"""  # noqa: S608  all of it is written here
_HEAPS: Final = f"""
    SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND {_OURS} ORDER BY 1
"""  # noqa: S608  all of it is written here


_VERIFIES_HEAPS: Final = "SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'verify_heapam'"


class PostgresqlExaminer:
    """Looks at a restored PostgreSQL database."""

    artefact: Artefact = "postgresql"

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Serve it, and compare it with the manifest; nothing, if the point has no PostgreSQL database."""
        expected = _expected(subject)
        if expected is None:
            return ()
        try:
            with serving(subject, progress) as url, opened_session(url) as connection:
                transaction = connection.begin()
                try:
                    return look(connection, expected, lambda: progress("comparing", 0))
                finally:
                    transaction.rollback()  # looking makes an extension, which is not to stay
        except (NothingToServeError, RestoredServerError, RefusedError, DamagedPageError) as error:
            return [_check("content", 1, "servers", [str(error)])]

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage it."""
        expected = _expected(subject)
        return [] if expected is None else mutants_of(subject, expected, look, self.examine, progress)


def look(connection: Connection, expected: Database, tick: Callable[[], None]) -> list[Check]:
    """Compare a database in the transaction that a connection is in.

    Raises:
        DamagedPageError: it cannot be read to its end.
    """
    try:
        return _look(connection, expected, tick)
    except DBAPIError as error:
        if (said := damage_in(error)) is None:
            raise
        raise DamagedPageError(said) from error


def _look(connection: Connection, expected: Database, tick: Callable[[], None]) -> list[Check]:
    is_whole = any(table.fingerprint is not None for table in expected.tables)
    found = Reading(connection, is_whole=is_whole, tick=tick).database()
    here, there = ({table.name: table for table in which.tables} for which in (found, expected))
    rows = sum(table.rows for table in found.tables)
    checks = [
        _check("schema", 1, "schemas", _unequal({"definitions": (found.schema_sha256, expected.schema_sha256)})),
        _check(
            "migration-head",
            int(expected.migration_head is not None),
            "heads",
            _unequal({"head": (found.migration_head, expected.migration_head)}),
        ),
        _check("content", rows, "rows", list(_contents(here, there))),
        _check("newest", rows, "rows", list(_newest(found, expected, here, there))),
        _check("foreign-keys", rows if is_whole else 0, "rows", list(_orphans(here, there))),
        _indexes(connection, tick),
    ]
    return [*checks, *(_check(f"content.{name}", 0) for name, table in sorted(there.items()) if not table.rows)]


def _expected(subject: Subject) -> Database | None:
    database = subject.manifest.database
    return database if database is not None and database.engine == "postgresql" else None


def _contents(here: Mapping[str, Table], there: Mapping[str, Table]) -> Iterator[str]:
    for name in sorted(here.keys() | there.keys()):
        now, then = here.get(name), there.get(name)
        if now is None or then is None:
            yield f"table {name} {'is missing' if now is None else 'was not there'}"
        elif now.rows != then.rows:
            yield f"table {name}: {now.rows} rows instead of {then.rows}"
        elif then.fingerprint is not None and now.fingerprint != then.fingerprint:
            yield f"table {name}: as many rows, and other content"


def _newest(
    found: Database, expected: Database, here: Mapping[str, Table], there: Mapping[str, Table]
) -> Iterator[str]:
    if found.newest_commit_at != expected.newest_commit_at:
        yield f"the newest instant is {found.newest_commit_at} instead of {expected.newest_commit_at}"
    for name in sorted(here.keys() & there.keys()):
        if here[name].newest != there[name].newest:
            yield f"table {name} ends elsewhere"


def _orphans(here: Mapping[str, Table], there: Mapping[str, Table]) -> Iterator[str]:
    for name in sorted(here.keys() & there.keys()):
        now, then = here[name].orphans, there[name].orphans
        if then is not None and now != then:
            yield f"table {name}: {now} rows point nowhere instead of {then}"


def _indexes(connection: Connection, tick: Callable[[], None]) -> Check:
    """Have the server check each index against its table (https://www.postgresql.org/docs/current/amcheck.html)."""
    there = "SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'"
    if not connection.exec_driver_sql(there).scalar():
        return _check("indexes", 0, "indexes")
    # The transaction is rolled back in the end, and the extension with it.
    connection.exec_driver_sql("CREATE SCHEMA nightcrew_drill")
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA nightcrew_drill")
    place = connection.exec_driver_sql(
        "SELECT extnamespace::regnamespace::text FROM pg_catalog.pg_extension WHERE extname = 'amcheck'"
    ).scalar()
    said: list[str] = []
    indexes = connection.exec_driver_sql(_INDEXES).scalars().all()
    for name in indexes:
        said += _answers(connection, f"SELECT {place}.bt_index_check('{_literal(name)}', true)", name, tick)
    can_read_heaps = connection.exec_driver_sql(_VERIFIES_HEAPS).scalar()  # since PostgreSQL 14
    heaps = connection.exec_driver_sql(_HEAPS).scalars().all() if can_read_heaps else []
    for name in heaps:
        query = f"SELECT min(msg) FROM {place}.verify_heapam('{_literal(name)}')"  # noqa: S608  quoted
        said += _answers(connection, query, name, tick)
    return _check("indexes", len(indexes) + len(heaps), "indexes and tables", said)


def _answers(connection: Connection, query: str, name: str, tick: Callable[[], None]) -> list[str]:
    """Give what is wrong with one of them; pages that the server cannot read are wrong, a full disk is not."""
    with connection.begin_nested() as savepoint:
        try:
            [found] = patiently(connection, query, tick)
        except DBAPIError as error:
            if (said := damage_in(error)) is None:
                raise
            savepoint.rollback()
            return [f"{name}: {said}"]
    return [f"{name}: {found}"] if found else []


def _literal(name: str) -> str:
    return name.replace("'", "''")


def _unequal(pairs: Mapping[str, tuple[object, object]]) -> list[str]:
    return [f"{name} {now} instead of {then}" for name, (now, then) in pairs.items() if now != then]


def _check(name: str, examined: int, unit: str = "rows", differences: Sequence[str] = ()) -> Check:
    said = list(differences[:_MOST_SAID])
    return Check(
        name=f"postgresql.{name}", artefact="postgresql", examined=examined, unit=unit, differences=tuple(said)
    )
