"""How a slice opens a transaction, and what the failures of a database mean to a job.

The same three names work on SQLite and on PostgreSQL; engines come from `workers.database`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tasks.errors import CrewError, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

WRITES: Final = "nightcrew_writes"
"""Execution option of a connection whose transaction will write: SQLite begins it with `BEGIN IMMEDIATE`."""

# https://www.sqlite.org/rescode.html, primary codes.
_SQLITE_TRANSIENT: Final = frozenset({"BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "PROTOCOL", "INTERRUPT", "NOMEM"})
_SQLITE_PERMANENT: Final = frozenset({"CORRUPT", "NOTADB", "READONLY", "PERM"})
# https://www.postgresql.org/docs/current/errcodes-appendix.html, classes and single codes.
_POSTGRESQL_TRANSIENT: Final = ("08", "40", "53", "55P03", "57", "58", "25P03")
_POSTGRESQL_NO_TABLE: Final = "42P01"


@contextmanager
def begin_write(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes; commit at the end, roll back on any error.

    On SQLite it holds the write lock from its first moment on. A transaction that read first and asked
    for the lock later would be refused without waiting once another writer had committed in between
    (SQLITE_BUSY_SNAPSHOT, https://www.sqlite.org/rescode.html#busy_snapshot).

    Raises:
        TransientError: see `database_errors`.
        PermanentError: see `database_errors`.
    """
    with database_errors(), engine.connect() as connection:
        connection.execution_options(**{WRITES: True})
        with connection.begin():
            yield connection


@contextmanager
def begin_read(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads: all its statements see the same moment, and it blocks no writer.

    Raises:
        TransientError: see `database_errors`.
        PermanentError: see `database_errors`.
    """
    with database_errors(), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what a database raises when the world is in its way; constraints and bad SQL pass as they are.

    Raises:
        TransientError: locked, full, out of time, connection lost, serialization failure.
        PermanentError: corrupt or read-only file, or a table is missing.
    """
    try:
        yield
    except PoolTimeoutError as error:
        msg = "every connection to the database is in use"
        raise TransientError(msg) from error
    except DBAPIError as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error


def _translate(error: DBAPIError) -> CrewError | None:
    # Only the driver's own text: SQLAlchemy's adds the statement and its parameters, which may be private.
    text = str(error.orig).strip().partition("\n")[0]
    if _is_missing_table(error):
        return PermanentError(f"database has a pending migration ({text})")
    if _is_permanent(error):
        return PermanentError(f"database cannot be used: {text}")
    if error.connection_invalidated or _is_transient(error):
        return TransientError(f"database is in the way: {text}")
    return None


def _is_missing_table(error: DBAPIError) -> bool:
    return _sqlstate(error) == _POSTGRESQL_NO_TABLE or str(error.orig).startswith("no such table")


def _is_permanent(error: DBAPIError) -> bool:
    return _sqlite_code(error) in _SQLITE_PERMANENT


def _is_transient(error: DBAPIError) -> bool:
    if code := _sqlite_code(error):
        return code in _SQLITE_TRANSIENT
    if state := _sqlstate(error):
        return state.startswith(_POSTGRESQL_TRANSIENT)
    # psycopg gives no state when the server could not be reached at all.
    return type(error.orig).__name__ == "OperationalError"


def _sqlite_code(error: DBAPIError) -> str:
    """Give `BUSY` for `SQLITE_BUSY_SNAPSHOT`; empty when SQLite did not say."""
    name = getattr(error.orig, "sqlite_errorname", None) or ""
    return name.removeprefix("SQLITE_").partition("_")[0]


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
