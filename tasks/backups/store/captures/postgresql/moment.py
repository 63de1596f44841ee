"""The moment that a point is of: a snapshot for what is read, and the place in the log where a replay has to stop.

Both are the same moment only while no transaction that writes to our tables is under way: its commit is written to the
log a little before other sessions see it. So all tables are locked against writers (SHARE, readers go on) for as long
as it takes to take the snapshot and to mark the log, some milliseconds. No writer is kept waiting for as long as
PostgreSQL takes for a deadlock (a second): where a table is not to be had in a quarter of that, all are let go, and it
is tried again.
"""

from __future__ import annotations

import itertools
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  a field
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from tasks.backups.postgresql.positions import parse_position
from tasks.backups.store.captures.postgresql.catalogue import table_names
from tasks.backups.store.captures.postgresql.sessions import opened_session
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import URL, Connection

_PATIENCE_MS: Final = 250
_PATIENCE_IN_ALL_S: Final = 300.0
_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_LOCK_NOT_HAD: Final = frozenset({"57014", "55P03", "40P01", "42P01"})  # out of time, not available, deadlock, dropped
_LOCK: Final = "LOCK TABLE ONLY {} IN SHARE MODE;"
_PREFIX: Final = "nightcrew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in the log."""

    until: int
    """A replay stops before the first record that begins here or later."""
    end: int
    """End of the record that we wrote there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment, and the transaction that still sees it."""

    connection: Connection
    snapshot: str
    """Name under which other sessions can see the same, as long as the transaction lasts."""
    at: datetime
    mark: Mark | None
    """None if no place in the log was wanted."""


@contextmanager
def seen_moment(url: URL) -> Iterator[Moment]:
    """Give a moment of the database alone, without a lock."""
    with opened_session(url) as connection:
        yield _snapshot(connection, None)


@contextmanager
def marked_moment(
    url: URL, label: str, tick: Callable[[], None], *, patience_s: float = _PATIENCE_IN_ALL_S
) -> Iterator[Moment]:
    """Give a moment of database and log; `label` is written into the log for people who read it.

    Raises:
        TransientError: some transaction has held a table for too long.
        PermanentError: the role may not lock a table.
    """
    with opened_session(url) as reading:
        with opened_session(url) as locking:
            moment = _marked(locking, reading, label, tick, patience_s)
        yield moment


def _marked(
    locking: Connection, reading: Connection, label: str, tick: Callable[[], None], patience_s: float
) -> Moment:
    deadline = time.monotonic() + patience_s
    first: Sequence[str] = ()
    for pause_s in _pauses():
        tick()
        try:
            with locking.begin():
                first = _lock(locking, first)
                # A commit that waits for this disk is on it: the mark is there before anybody asks for the log.
                return _snapshot(reading, _mark(locking, label))
        except _BlockedError as blocked:
            first = blocked.order
        if time.monotonic() > deadline:
            break
        time.sleep(pause_s)
    msg = f"a transaction has kept {first[0]} for {patience_s:g} s: see pg_stat_activity for what is open for long"
    raise TransientError(msg)


def _lock(connection: Connection, first: Sequence[str]) -> Sequence[str]:
    """Keep writers out of all tables until the end of the transaction, of those in `first` before the others.

    A writer that comes through the tables in another order than we do waits for us while we wait for it. So the table
    that we could not get is the first one of the next try: nothing is held then while we wait for it.
    """
    names = table_names(connection)
    order = sorted(names, key=lambda name: first.index(name) if name in first else len(first))
    locks = " ".join(_LOCK.format(name) for name in order)
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_PATIENCE_MS}")
    try:
        # One statement, so that the time is that of all of them, and no round trip is made with half of them held.
        connection.exec_driver_sql(f"DO $nightcrew$ BEGIN {locks} END $nightcrew$")
    except DBAPIError as error:
        _let_pass(error)
        raise _BlockedError(_blocked(error, order), order) from error
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    if sorted(table_names(connection)) != sorted(names):
        raise _BlockedError(next(iter(order), "a new table"), order)  # a table was made or dropped meanwhile
    return order


def _blocked(error: DBAPIError, order: Sequence[str]) -> str:
    """Find the table at which the server gave up: it quotes the statement."""
    diagnosis = getattr(error.orig, "diag", None)
    context = getattr(diagnosis, "context", None) or ""
    return next((name for name in order if _LOCK.format(name).rstrip(";") in context), order[0])


class _BlockedError(Exception):
    """A table was not to be had for now."""

    def __init__(self, name: str, order: Sequence[str]) -> None:
        super().__init__(name)
        self.order = (name, *(other for other in order if other != name))


def _pauses() -> Iterator[float]:
    for number in itertools.count():
        longest_s = min(_LONGEST_PAUSE_S, _PAUSE_S * 2**number)
        yield random.uniform(longest_s / 4, longest_s)  # noqa: S311  only so that two do not go in step


def _mark(connection: Connection, label: str) -> Mark:
    until = connection.exec_driver_sql("SELECT pg_current_wal_insert_lsn()::text").scalar_one()
    written = f"SELECT pg_logical_emit_message(true, '{_PREFIX}', '{_plain(label)}')::text"
    end = connection.exec_driver_sql(written).scalar_one()
    return Mark(until=parse_position(until), end=parse_position(end))


def _snapshot(connection: Connection, mark: Mark | None) -> Moment:
    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    name, at = connection.exec_driver_sql("SELECT pg_export_snapshot(), now()").one()
    return Moment(connection=connection, snapshot=name, at=at, mark=mark)


def _let_pass(error: DBAPIError) -> None:
    state = getattr(error.orig, "sqlstate", None)
    if state == "42501":
        msg = f"{str(error.orig).splitlines()[0]}: an increment needs to lock each table; make the role its owner"
        raise PermanentError(msg) from error
    if state not in _LOCK_NOT_HAD:
        raise error


def _plain(label: str) -> str:
    return "".join(character for character in label if character.isalnum() or character in "-_.")
