"""Sessions of a backup with the server, and what the tools are told to reach it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import DBAPIError

from tasks.errors import PermanentError
from tasks.transactions import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import URL, Connection

_NAME: Final = "nightcrew-backup"
_TICK_S: Final = 0.5
_CANCEL_S: Final = 10.0
_KEEPALIVE: Final = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

# Text of a row is what it is compared by: everything that bears on it is set, whatever the server or the role says.
_PINNED: Final = {
    "search_path": "''",
    "timezone": "'UTC'",
    "datestyle": "'ISO, YMD'",
    "intervalstyle": "'postgres'",
    "bytea_output": "'hex'",
    "extra_float_digits": "1",
    "xmlbinary": "'base64'",
    "lc_monetary": "'C'",
    "lc_numeric": "'C'",
    "quote_all_identifiers": "off",
    "row_security": "off",  # an error is better than a table that is read in part
    "synchronous_commit": "local",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_PINNED_WHERE_KNOWN: Final = {"idle_session_timeout": "0", "transaction_timeout": "0"}


@contextmanager
def opened_session(url: URL) -> Iterator[Connection]:
    """Open a connection of our own, outside of every pool, on which nothing times out and all text has one form.

    Raises:
        TransientError: the server cannot be reached, or goes away during the block.
        PermanentError: it refuses something, with its own words.
    """
    engine = sa.create_engine(_driver(url), poolclass=sa.NullPool, connect_args=_connect_args(url))
    try:
        with _errors(), engine.connect() as connection:
            connection.execution_options(no_parameters=True)
            pin(connection)
            yield connection
    finally:
        engine.dispose()


def pin(connection: Connection) -> None:
    """Give all text one form, and take the time limits off; outlives the transaction that it ends."""
    rows = connection.exec_driver_sql("SELECT name FROM pg_catalog.pg_settings").scalars().all()
    settings = {**_PINNED, **{name: value for name, value in _PINNED_WHERE_KNOWN.items() if name in rows}}
    connection.exec_driver_sql("; ".join(f"SET {name} = {value}" for name, value in settings.items()))
    connection.commit()


def patiently(connection: Connection, statement: str, tick: Callable[[], None]) -> Sequence[Any]:
    """Give the first row of a statement that may take hours; `tick` is called twice a second and is a checkpoint.

    Whatever it raises passes, after the server was asked to stop and has stopped.
    """
    with ThreadPoolExecutor(max_workers=1) as threads:
        answer = threads.submit(lambda: connection.exec_driver_sql(statement).one())
        try:
            while not wait([answer], timeout=_TICK_S).done:
                tick()
        except BaseException:
            _cancel(connection)
            raise
        return tuple(answer.result())


def libpq_environment(url: URL) -> dict[str, str]:
    """Give what the tools are told by their environment alone: no argument of theirs shows where or as whom."""
    said = pq.Conninfo.parse(conninfo(url).encode())
    named = {option.envvar.decode(): option.val.decode() for option in said if option.envvar and option.val is not None}
    # Their messages are read, so they have to come in one language.
    return {"PGAPPNAME": _NAME, "PGCONNECT_TIMEOUT": "10", **named, "LC_ALL": "C"}


def replication_refusal(url: URL) -> str:
    """Say in the server's words why it takes no replication connection; empty if it does."""
    try:
        with closing(psycopg.connect(conninfo(url), replication="true", autocommit=True, connect_timeout=10)):
            return ""
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1].strip()


def conninfo(url: URL) -> str:
    """Write an address as libpq reads it, whatever characters a password has."""
    driver = _driver(url)
    _, parts = driver.get_dialect()().create_connect_args(driver)
    return make_conninfo("", **parts)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        with database_errors():
            yield
    except DBAPIError as error:
        msg = f"PostgreSQL refuses: {str(error.orig).partition(chr(10))[0]}"
        raise PermanentError(msg) from error


def _driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg")


def _connect_args(url: URL) -> dict[str, Any]:
    arguments = {"application_name": _NAME, **_KEEPALIVE}
    return {name: value for name, value in arguments.items() if name not in url.query}


def _cancel(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        driver.cancel_safe(timeout=_CANCEL_S)
