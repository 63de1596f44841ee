"""How transactions behave on both databases, and what their failures are translated to."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import QueuePool, Text, column, event, insert, table, text
from sqlalchemy.exc import IntegrityError

from tasks.errors import PermanentError, TransientError
from workers.database import begin_read, begin_write, create_engine

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

_INSERT = text("INSERT INTO notes (note) VALUES (:note)")
_COUNT = text("SELECT count(*) FROM notes")


@pytest.fixture
def engine(empty_engine: Engine) -> Engine:
    """Give an engine on a database with one small table."""
    with begin_write(empty_engine) as connection:
        connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)"))
    return empty_engine


only_sqlite = pytest.mark.parametrize("empty_engine", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("empty_engine", ["postgresql"], indirect=True)


def twin(engine: Engine, *, busy_timeout_s: float = 0.2) -> Engine:
    return create_engine(engine.url.render_as_string(hide_password=False), busy_timeout_s=busy_timeout_s)


def end_session(engine: Engine, pid: int) -> None:
    with begin_write(engine) as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def count(engine: Engine) -> int:
    with begin_read(engine) as connection:
        return int(connection.execute(_COUNT).scalar_one())


def test_write_is_committed(engine: Engine) -> None:
    """What was written is there for another engine."""
    with begin_write(engine) as connection:
        connection.execute(_INSERT, {"note": "a"})
    other = twin(engine)
    assert count(other) == 1
    other.dispose()


def test_error_rolls_back(engine: Engine) -> None:
    """An error in the block leaves nothing, and passes as it is."""
    with pytest.raises(ZeroDivisionError), begin_write(engine) as connection:  # noqa: PT012  the block is the subject
        connection.execute(_INSERT, {"note": "a"})
        raise ZeroDivisionError
    assert count(engine) == 0


def test_read_sees_one_moment(engine: Engine) -> None:
    """Two statements of a reading transaction see the same, whatever is committed between them."""
    with begin_read(engine) as connection:
        before = connection.execute(_COUNT).scalar_one()
        with begin_write(engine) as writer:
            writer.execute(_INSERT, {"note": "a"})
        assert connection.execute(_COUNT).scalar_one() == before
    assert count(engine) == before + 1


def test_writer_does_not_block_readers(engine: Engine) -> None:
    """While a transaction writes, others read what was there before."""
    with begin_write(engine) as connection:
        connection.execute(_INSERT, {"note": "a"})
        assert count(engine) == 0


def test_constraint_passes_untranslated(engine: Engine) -> None:
    """A broken constraint is the caller's business."""
    with pytest.raises(IntegrityError), begin_write(engine) as connection:
        connection.execute(_INSERT, [{"note": "a"}, {"note": "a"}])


def test_missing_table_is_permanent(engine: Engine) -> None:
    """A table that is not there means a pending migration."""
    with pytest.raises(PermanentError, match="pending migration"), begin_read(engine) as connection:
        connection.execute(text("SELECT * FROM not_there"))


def test_waiting_writer_gives_up(engine: Engine) -> None:
    """Who waits too long for a lock gets a transient error, without the values of the statement."""
    other = twin(engine)
    with begin_write(engine) as holder:
        holder.execute(_INSERT, {"note": "canary"})
        with pytest.raises(TransientError) as caught, begin_write(other) as connection:
            connection.execute(_INSERT, {"note": "canary"})
    assert "canary" not in str(caught.value)
    other.dispose()


def test_child_gets_connections_of_its_own(engine: Engine) -> None:
    """After a fork both sides go on, and the child's first connection is a new one."""
    with begin_write(engine) as connection:
        connection.execute(_INSERT, {"note": "parent"})
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert isinstance(engine.pool, QueuePool)
            assert engine.pool.checkedin() == 0
            with begin_write(engine) as connection:
                connection.execute(_INSERT, {"note": "child"})
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert count(engine) == 2


def test_sqlite_file_is_private(tmp_path: Path) -> None:
    """The file, its log and the folders made for it are the owner's alone, whatever the umask."""
    path = tmp_path / "a" / "b" / "x.db"
    engine = create_engine(f"sqlite:///{path}")
    umask = os.umask(0)
    try:
        with begin_write(engine) as connection:
            connection.execute(text("CREATE TABLE t (x)"))
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert modes == {"x.db": 0o600, "x.db-wal": 0o600, "x.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    engine.dispose()


def test_sqlite_keeps_its_locks_when_it_connects_again(tmp_path: Path) -> None:
    """A process that ends cannot take the log away under one that has opened a second connection meanwhile."""
    path = tmp_path / "x.db"
    engine = create_engine(f"sqlite:///{path}")
    with begin_write(engine) as connection:
        connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)"))
    with engine.connect(), begin_write(engine) as second:
        second.execute(_INSERT, {"note": "a"})
    assert read_elsewhere(path) == 1
    assert path.with_name("x.db-wal").exists()
    with begin_write(engine) as connection:
        connection.execute(_INSERT, {"note": "b"})
    assert read_elsewhere(path) == 2
    engine.dispose()


def read_elsewhere(path: Path) -> int:
    """Count the notes in a process that ends in order: it is the last one to close the database, if it is alone."""
    code = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}); print(*c.execute({_COUNT.text!r}).fetchone()); c.close()"
    )
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


@only_sqlite
def test_sqlite_pragmas(engine: Engine) -> None:
    """Each connection has the log, the durability and the checks that the design counts on."""
    expected = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30_000}
    with begin_read(engine) as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in expected}
    assert found == expected


@only_sqlite
def test_sqlite_statements_do_not_multiply_with_the_rows(engine: Engine) -> None:
    """However many rows are written at once, few statements are there to be kept, by each connection, as compiled."""
    note = column("note", Text)
    notes, statements = insert(table("notes", note)).returning(note), set[str]()
    event.listen(engine, "before_cursor_execute", lambda _connection, _cursor, sql, *_: statements.add(sql))
    for size in range(2, 60):
        with begin_write(engine) as connection:
            rows = [{"note": f"{size}-{number}"} for number in range(size)]
            assert len(connection.execute(notes, rows).all()) == size
    assert len(statements) <= 10


@only_sqlite
def test_sqlite_writer_holds_the_lock_from_the_start(engine: Engine) -> None:
    """A writing transaction is refused at its first moment, before it has read anything that could grow stale."""
    other = twin(engine, busy_timeout_s=0.05)
    with begin_write(engine), pytest.raises(TransientError), begin_write(other):
        pytest.fail("two writers at once")
    other.dispose()


@only_sqlite
def test_sqlite_full_disk_is_transient(engine: Engine) -> None:
    """No room left is the world's fault, and nothing of the transaction stays."""
    notes = [{"note": f"{number:0100}"} for number in range(2_000)]
    with begin_read(engine) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # holds for this connection, which the pool gives again
    with pytest.raises(TransientError, match="full"), begin_write(engine) as connection:
        connection.execute(_INSERT, notes)
    engine.dispose()
    assert count(engine) == 0


@only_sqlite
def test_sqlite_file_that_may_not_grow_is_transient(engine: Engine) -> None:
    """A quota or a limit makes writes fail otherwise than a full disk does (SQLITE_IOERR, not SQLITE_FULL)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # Python ignores SIGXFSZ, so a write fails with EFBIG
    try:
        with pytest.raises(TransientError, match="disk I/O error"), begin_write(engine) as connection:
            connection.execute(_INSERT, {"note": "a"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with begin_write(engine) as connection:
        connection.execute(_INSERT, {"note": "b"})
    assert count(engine) == 1


def test_sqlite_damaged_file_is_permanent(tmp_path: Path) -> None:
    """A file that is no database is told apart from one that is busy."""
    path = tmp_path / "x.db"
    path.write_bytes(b"no database at all " * 100)
    engine = create_engine(f"sqlite:///{path}")
    with pytest.raises(PermanentError, match="not a database"), begin_read(engine):
        pytest.fail("opened")


@only_postgresql
def test_postgresql_session(engine: Engine) -> None:
    """Sessions speak UTC, have a name, and wait for nothing without end."""
    expected = {
        "TimeZone": "UTC",
        "application_name": "nightcrew",
        "lock_timeout": "30s",
        "statement_timeout": "5min",
        "idle_in_transaction_session_timeout": "1min",
    }
    with begin_read(engine) as connection:
        found = {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in expected}
    assert found == expected


@only_postgresql
def test_postgresql_lost_connection_is_transient(engine: Engine) -> None:
    """A connection that the server ends in the middle is transient, and the next one is checked before use."""
    killer = twin(engine)
    with begin_read(engine) as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()  # the pool gives it again
    with pytest.raises(TransientError), begin_write(engine) as connection:  # noqa: PT012  it ends within the block
        end_session(killer, pid)
        connection.execute(_INSERT, {"note": "a"})
    assert count(engine) == 0
    killer.dispose()


def test_postgresql_not_there_is_transient(tmp_path: Path) -> None:
    """A server that does not answer may be back in a minute."""
    engine = create_engine(f"postgresql://me:canary@/db?host={tmp_path}")
    with pytest.raises(TransientError) as caught, begin_read(engine):
        pytest.fail("connected")
    assert "canary" not in str(caught.value)


@only_postgresql
def test_postgresql_reader_does_not_stay_read_only(engine: Engine) -> None:
    """The connection of a reading transaction writes again once it is back in the pool."""
    for _ in range(2):
        count(engine)
        with begin_write(engine) as connection:
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
            assert connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "off"
