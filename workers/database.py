"""The database: how connections are opened on SQLite and PostgreSQL, and how its tables are brought up to date.

Stores open their transactions through `tasks.transactions`; nothing else in the service makes an engine.
Alembic is imported where it is used: it takes longer to load than most commands take to
run, and a worker never needs it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy
from sqlalchemy import event, text

from tasks.errors import PermanentError
from tasks.transactions import WRITES, begin_read, begin_write, database_errors

if TYPE_CHECKING:
    import sqlite3

    from alembic.config import Config
    from sqlalchemy import URL, Connection, Engine, Pool

__all__ = [
    "begin_read",
    "begin_write",
    "create_engine",
    "current_revision",
    "database_errors",
    "migrate",
    "pending_migrations",
]

# Any number will do that no other user of advisory locks in this database takes: "nightcre" in ASCII.
_MIGRATION_LOCK: Final = int.from_bytes(b"nightcre", "big")

# In KiB when negative. Holds the upper levels of the trees of some million counts; each connection has its own.
_SQLITE_CACHE_SIZE: Final = -32 * 1024

# Each connection keeps its newest statements compiled, and each number of rows is a statement of its own, at 8 kB per
# row of a run: with the defaults (128 statements of up to 1,000 rows) a worker grew for hours, towards gigabytes.
_SQLITE_STATEMENTS: Final = 64
_SQLITE_ROWS_PER_INSERT: Final = 8

# What the write-ahead log is cut back to after a large transaction.
_SQLITE_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


def create_engine(url: str, *, busy_timeout_s: float = 30.0, statement_timeout_s: float = 300.0) -> Engine:
    """Make an engine; nothing is opened before its first use.

    `busy_timeout_s` is how long a statement waits for another's lock, `statement_timeout_s` how long a
    statement of PostgreSQL may run. A child that is forked later starts with connections of its own.

    Both databases get SQLAlchemy's QueuePool. With NullPool each transaction on SQLite would open the file
    anew, read the schema again and begin with an empty page cache.
    """
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(parsed, busy_timeout_s=busy_timeout_s)
    else:
        engine = _postgresql_engine(parsed, busy_timeout_s=busy_timeout_s, statement_timeout_s=statement_timeout_s)
    _forget_connections_in_children()
    _engines.add(engine)
    return engine


def migrate(engine: Engine) -> list[str]:
    """Bring the tables up to date in one transaction; give the revisions applied, oldest first.

    Any number of processes may call it at once: one does the work, the others wait and find it done.

    Raises:
        PermanentError: the database was migrated by a newer version of the service.
        TransientError: the database is locked or away.
    """
    with begin_write(engine) as connection:
        if engine.dialect.name == "postgresql":
            # Waiting for a long migration of another process is right; the usual limits would give up.
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        pending = _pending_after(_revision_of(connection))
        if pending:
            _upgrade(connection)
        return pending


def pending_migrations(engine: Engine) -> list[str]:
    """Give the revisions that `migrate` would apply, oldest first. Creates nothing.

    Raises:
        PermanentError: the database was migrated by a newer version of the service.
        TransientError: the database is locked or away.
    """
    return _pending_after(current_revision(engine))


def current_revision(engine: Engine) -> str | None:
    """Give the newest revision applied, or None for a database without tables. Creates nothing.

    Raises:
        TransientError: the database is locked or away.
    """
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path is not None and not Path(path).exists():
        return None
    with begin_read(engine) as connection:
        return _revision_of(connection)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415

    config = _alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision_of(connection: Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    return MigrationContext.configure(connection).get_current_revision()


def _pending_after(revision: str | None) -> list[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.script.revision import ResolutionError  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_alembic_config())
    try:
        newest_first = [script.revision for script in scripts.iterate_revisions("head", revision or "base")]
    except ResolutionError as error:
        msg = (
            f"the database is at revision {revision!r}, which this version does not know: "
            "it was migrated by a newer one; install that version or restore an older copy"
        )
        raise PermanentError(msg) from error
    return newest_first[::-1]


def _alembic_config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _sqlite_engine(url: URL, *, busy_timeout_s: float) -> Engine:
    engine = sqlalchemy.create_engine(
        url,
        connect_args={"timeout": busy_timeout_s, "cached_statements": _SQLITE_STATEMENTS},
        insertmanyvalues_page_size=_SQLITE_ROWS_PER_INSERT,
    )
    path = Path(url.database or "")

    @event.listens_for(engine, "do_connect")
    def _create_private_file(*_: object) -> None:
        _make_private(path)

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions of its own: it would start them late, and never as IMMEDIATE.
        connection.isolation_level = None
        _apply_pragmas(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _apply_pragmas(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",  # readers and the one writer do not wait for one another
        # A power loss may take the newest transactions, always whole ones: counts and offset go back together,
        # and the log in Redis still has the entries. FULL would cost an fsync for each transaction.
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"cache_size = {_SQLITE_CACHE_SIZE}",
        f"journal_size_limit = {_SQLITE_WAL_LIMIT_BYTES}",
        "temp_store = MEMORY",
        # A file cut short under a memory map kills the process with SIGBUS instead of raising an error.
        "mmap_size = 0",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _make_private(path: Path) -> None:
    """Create the file with mode 600 and its missing folders with mode 700; leave what is there alone.

    A file that exists is not even opened: closing a second handle of it would drop the locks of all connections that
    this process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2), and the next process to end would take the
    log of the writes away under them.
    """
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _postgresql_engine(url: URL, *, busy_timeout_s: float, statement_timeout_s: float) -> Engine:
    session = {
        "timezone": "UTC",
        "statement_timeout": round(statement_timeout_s * 1000),
        "lock_timeout": round(busy_timeout_s * 1000),
        # A worker that was stopped in the middle of a transaction must not keep its locks for ever.
        "idle_in_transaction_session_timeout": 60_000,
    }
    arguments: dict[str, Any] = {
        "application_name": "nightcrew",
        "connect_timeout": 10,
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
        # A peer that vanished is noticed within a minute, not after the two hours of the kernel's default.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    # What the URL says wins.
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    return sqlalchemy.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=arguments,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        pool_recycle=1800,
    )


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_inherited: list[Pool] = []


@cache
def _forget_connections_in_children() -> None:
    os.register_at_fork(after_in_child=_forget_connections)


def _forget_connections() -> None:
    """Give every engine a new pool, and keep the parent's unclosed.

    Closing a connection of the parent's here would say goodbye to the server on the parent's socket, and
    SQLite forbids even closing (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork).
    """
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)
