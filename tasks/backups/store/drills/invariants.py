"""The crew's own invariants, asked of a restored database: what must be true whatever was captured.

The manifest says what the database was; the invariants say what it must have been. The damage that shows that they see
is done in a transaction that is taken back, to a private copy (SQLite) or on the private server (PostgreSQL): one copy
serves all of it. Only the invariant at hand is asked then, so that nothing else notices in its stead.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import exc as sql_errors

from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.store.captures.sqlite_copying import reading
from tasks.backups.store.drills.copies import copy_file, trial_directory
from tasks.backups.store.drills.postgresql.serving import serving
from tasks.invariants import CLOCKS_APART
from tasks.schema import UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.staging import Progress
    from tasks.invariants import Damage, Invariant

_FILE: Final = "database/nightcrew.db"
_MOST_SAID: Final = 10
_A_YEAR: Final = timedelta(days=366)
_NO_COLUMN: Final = "42703"
"""Class and code of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html."""


class InvariantExaminer:
    """Asks a restored database what is always true of it."""

    artefact: Artefact = "invariants"

    def __init__(self, *, invariants: Sequence[Invariant], file: str = _FILE) -> None:
        """Know the invariants, and where a restore puts an SQLite database."""
        self._invariants, self._file = invariants, file

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Ask all of them; nothing, if the point has no database of a crew."""
        if not self._is_there(subject):
            return ()
        with self._opened(subject, progress) as connection:
            asking = Asking(connection, subject.manifest.taken_at, progress)
            if _tables_of(self._invariants).isdisjoint(asking.tables):
                return ()
            return [asking.check(one) for one in self._invariants]

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Do all damage now, on one copy, and give what came of it."""
        if not self._is_there(subject):
            return ()
        with self._to_be_damaged(subject, progress) as connection:
            asking = Asking(connection, subject.manifest.taken_at, progress)
            if _tables_of(self._invariants).isdisjoint(asking.tables):
                return ()
            return [asking.mutant(one, damage) for one in self._invariants for damage in one.damages]

    def _is_there(self, subject: Subject) -> bool:
        database = subject.manifest.database
        if database is None or not self._invariants:
            return False
        # A lost file is told by whoever compares files.
        return database.engine != "sqlite" or (subject.restored / self._file).is_file()

    @contextmanager
    def _opened(self, subject: Subject, progress: Progress) -> Iterator[Connection]:
        """Open the restored database for reading alone."""
        if _engine_of(subject) == "sqlite":
            file = subject.restored / self._file
            with reading(file, lambda: progress("asking", 0)) as raw, _wrapped(raw) as connection:
                yield connection
        else:
            with _served(subject, progress) as connection:
                yield connection

    @contextmanager
    def _to_be_damaged(self, subject: Subject, progress: Progress) -> Iterator[Connection]:
        """Open what may be damaged, in transactions that are taken back."""
        if _engine_of(subject) == "sqlite":
            with trial_directory(subject.scratch) as directory:
                copy = directory / self._file
                copy_file(subject.restored / self._file, copy, progress)
                raw = sqlite3.connect(copy, isolation_level=None)
                raw.execute("PRAGMA synchronous = OFF")
                with _wrapped(raw) as connection:
                    yield connection
        else:
            with _served(subject, progress) as connection:
                yield connection


def find_violations(connection: Connection, invariant: Invariant, taken_at: datetime) -> Check:
    """Ask a database, captured at `taken_at`, whether something is true of it.

    A database of an older release may lack a table or a column: then nothing was looked at, and no harm is done.
    """
    if missing := set(invariant.tables) - set(sa.inspect(connection).get_table_names()):
        return _of_older_release(invariant, f"has no table {', '.join(sorted(missing))}")
    try:
        with connection.begin_nested():
            counted = _execute(connection, invariant.counted, taken_at).scalar_one()
            found = _execute(connection, invariant.violations, taken_at).fetchmany(_MOST_SAID + 1)
    except sql_errors.DBAPIError as error:
        return _unanswered(invariant, error)
    said = [str(text) for (text,) in found[:_MOST_SAID]]
    more = ["and more"] if len(found) > _MOST_SAID else []
    # Something violates it, so something was looked at.
    return _check(invariant, examined=max(counted, len(said)), differences=(*said, *more))


@dataclass(frozen=True, slots=True)
class Asking:
    """One open database, and what is asked of it."""

    connection: Connection
    taken_at: datetime
    progress: Progress

    @property
    def tables(self) -> Collection[str]:
        """Name its tables."""
        return set(sa.inspect(self.connection).get_table_names())

    def check(self, invariant: Invariant) -> Check:
        """Ask whether something is true of it."""
        self.progress(f"asking {invariant.name}", 0)
        return find_violations(self.connection, invariant, self.taken_at)

    def mutant(self, invariant: Invariant, damage: Damage) -> Mutant:
        """Do damage, ask, and take the damage back."""
        self.progress(f"asking {invariant.name}", 0)
        name = f"{invariant.name}.{damage.name}"
        checks: list[Check] = []
        reason = self._why_not(invariant, damage)
        if not reason:
            checks.append(self._damaged(invariant, damage))
        return Mutant(name=name, artefact="invariants", trial=lambda: checks, not_possible=reason)

    def _why_not(self, invariant: Invariant, damage: Damage) -> str:
        if missing := set(invariant.tables).difference(self.tables):
            return f"the release that wrote it has no table {', '.join(sorted(missing))}"
        try:
            with self.connection.begin_nested():
                is_possible = _execute(self.connection, damage.possible, self.taken_at).first() is not None
        except sql_errors.DBAPIError as error:
            if _lacks_a_column(error):
                return "the release that wrote it has not all of its columns"
            raise
        return "" if is_possible else "there is nothing that could be damaged in this way"

    def _damaged(self, invariant: Invariant, damage: Damage) -> Check:
        with self.connection.begin_nested() as damaged:
            for statement in damage.statements:
                _execute(self.connection, statement, self.taken_at)
            check = find_violations(self.connection, invariant, self.taken_at)
            damaged.rollback()
        return check


def _execute(connection: Connection, statement: str, taken_at: datetime) -> sa.CursorResult[Any]:
    latest = taken_at + CLOCKS_APART
    known: dict[str, tuple[Any, Any]] = {
        "latest": (UtcDateTime(), latest),
        "latest_hour": (sa.Integer(), int(latest.timestamp() // 3600)),
        "far_ahead": (UtcDateTime(), taken_at + _A_YEAR),
    }
    text = sa.text(statement)
    used = [name for name in known if name in text._bindparams]  # noqa: SLF001  what the statement names
    typed = text.bindparams(*(sa.bindparam(name, type_=known[name][0]) for name in used))
    return connection.execute(typed, {name: known[name][1] for name in used})


def _check(invariant: Invariant, *, examined: int, **more: Any) -> Check:
    return Check(name=invariant.name, artefact="invariants", examined=examined, **more)


def _of_older_release(invariant: Invariant, why: str) -> Check:
    return _check(invariant, examined=0, unit=f"rows, because the release that wrote them {why}")


def _unanswered(invariant: Invariant, error: sql_errors.DBAPIError) -> Check:
    said = " ".join(str(error.orig).split())
    if _lacks_a_column(error):
        return _of_older_release(invariant, f"has other columns: {said}")
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
        raise error  # a checkpoint stops the drill: `reading` knows why
    if isinstance(error, sql_errors.OperationalError | sql_errors.DataError):
        return _check(invariant, examined=0, unable=said)
    return _check(invariant, examined=1, differences=(f"it cannot be read: {said}",))


def _lacks_a_column(error: sql_errors.DBAPIError) -> bool:
    return "no such column" in str(error.orig) or getattr(error.orig, "sqlstate", None) == _NO_COLUMN


def _engine_of(subject: Subject) -> str:
    return "" if subject.manifest.database is None else subject.manifest.database.engine


def _tables_of(invariants: Sequence[Invariant]) -> set[str]:
    return {table for one in invariants for table in one.tables}


@contextmanager
def _wrapped(raw: sqlite3.Connection) -> Iterator[Connection]:
    """Speak to an open connection through SQLAlchemy, and close it."""
    engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=sa.StaticPool)
    try:
        with engine.connect() as connection, connection.begin() as everything:
            connection.exec_driver_sql("BEGIN")  # the driver leaves that to whoever opened it
            yield connection
            everything.rollback()
    finally:
        engine.dispose()


@contextmanager
def _served(subject: Subject, progress: Progress) -> Iterator[Connection]:
    """Open the restored database on a private server; nothing that is done there stays."""
    with serving(subject, progress) as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection, connection.begin() as everything:
            yield connection
            everything.rollback()
