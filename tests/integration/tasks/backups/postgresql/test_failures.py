"""What goes wrong while a point is taken is an error that says so, and leaves nothing behind."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from tasks.backups.store.captures.postgresql.moment import marked_moment
from tasks.backups.store.captures.postgresql.sessions import opened_session, patiently
from tasks.backups.store.programs import ProgramMissingError
from tasks.errors import CancelledError, PermanentError, TransientError
from tests.integration.tasks.backups.postgresql.points import Points
from tests.integration.tasks.backups.postgresql.writing import fill, libpq
from tests.support.databases import migrate_database
from tests.support.postgres import PostgresServer
from tests.support.processes import short_directory
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name IN ('nightcrew-backup', 'pg_dump', 'pg_basebackup')"
_SLOTS = "SELECT slot_name FROM pg_replication_slots"


@pytest.mark.parametrize("phase", ["base backup", "waiting for a moment without writers", "dump", "reading the tables"])
def test_calling_off_leaves_nothing_behind(points_of: Callable[[str], Points], phase: str) -> None:
    """Called off in any phase, no session, no slot and no file is left."""
    points = points_of("blocks")
    points.progress = _raise_in(phase, CancelledError("called off"))
    with pytest.raises(CancelledError):
        points.take()
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        wait_until(lambda: not connection.execute(_OURS).fetchall(), timeout_s=30, what="the end of our sessions")
        assert connection.execute(_SLOTS).fetchall() == []
    assert list(points.directory.glob("*/scratch")) == []


def test_a_long_query_is_called_off(points_of: Callable[[str], Points]) -> None:
    """A table that takes hours to read is not read to its end when nobody wants it any more."""
    points = points_of("neither")
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute("CREATE VIEW slowly AS SELECT pg_sleep(3600)::text")
    calls = iter(range(2))

    def tick() -> None:
        if next(calls, None) is None:
            raise CancelledError("called off")

    with opened_session(sa.make_url(points.url)) as session:
        with pytest.raises(CancelledError):
            patiently(session, "SELECT * FROM public.slowly", tick)
        session.rollback()
        assert session.exec_driver_sql("SELECT 1").scalar_one() == 1


@pytest.mark.parametrize("phase", ["base backup", "dump"])
def test_a_server_that_dies_is_a_reason_to_try_again(directory: Path, phase: str) -> None:
    """The server is killed while a point is taken: the run fails for now, and not for good."""
    with short_directory() as place, closing(PostgresServer(place, options={"summarize_wal": "on"})) as server:
        server.start()
        url = server.url.render_as_string(hide_password=False)
        migrate_database(url)
        fill(url)
        points = Points(url=url, tools=server.programs, directory=directory, progress=_call_in(phase, server.kill9))
        for _ in range(2):  # in the middle, and before it has begun
            with pytest.raises(TransientError):
                points.take()


def test_no_room_is_a_reason_to_try_again(points_of: Callable[[str], Points], tmp_path: Path) -> None:
    """A tool that finds the disk full fails the run for now, and says so."""
    points = points_of("neither")
    points.tools = _tools(points.tools, tmp_path, pg_dump='exec "{tool}" "$@" --file=/dev/full')
    with pytest.raises(TransientError, match="No space left"):
        points.take()


def test_a_tool_that_is_killed_is_a_reason_to_try_again(points_of: Callable[[str], Points], tmp_path: Path) -> None:
    """By a limit of the size of files, by the kernel for its memory, by hand: the next attempt may succeed."""
    points = points_of("neither")
    points.tools = _tools(points.tools, tmp_path, pg_dump="kill -XFSZ $$")
    with pytest.raises(TransientError, match=r"pg_dump failed: it was killed \(File size limit exceeded\)"):
        points.take()


def test_a_failed_dump_is_no_point(points_of: Callable[[str], Points], tmp_path: Path) -> None:
    """The exit code counts, whatever was written; and so does a dump that is not whole although all went well."""
    points = points_of("neither")
    real = points.tools
    points.tools = _tools(real, tmp_path / "a", pg_dump='"{tool}" "$@"; echo "pg_dump: error: lost it" >&2; exit 3')
    with pytest.raises(PermanentError, match="pg_dump failed: lost it"):
        points.take()
    points.tools = _tools(real, tmp_path / "b", pg_dump='exec "{tool}" "$@" --exclude-table=usage_counts')
    with pytest.raises(PermanentError, match="pg_dump said that all went well"):
        points.take()


def test_tools_that_are_too_old_are_named(points_of: Callable[[str], Points], tmp_path: Path) -> None:
    """A dump by an older version than the server is not tried; the error is the command that helps."""
    points = points_of("neither")
    points.tools = _tools(points.tools, tmp_path, pg_dump='echo "pg_dump (PostgreSQL) 12.3"')
    with pytest.raises(ProgramMissingError, match="sudo apt-get install postgresql-client-18"):
        points.take()


def test_an_empty_database_is_no_point(points_of: Callable[[str], Points]) -> None:
    """A database without a table is a wrong address, and not a success."""
    points = points_of("neither")
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
    with pytest.raises(PermanentError, match="has no tables"):
        points.take()


def test_an_open_transaction_is_waited_for(points_of: Callable[[str], Points]) -> None:
    """A writer that keeps a table open is neither interrupted nor left out; too long is a reason to try again."""
    points = points_of("log")
    url = sa.make_url(points.url)
    waited: list[int] = []

    with psycopg.connect(libpq(points.url)) as writer:
        writer.execute("DELETE FROM days_old")
        with (
            pytest.raises(TransientError, match="days_old"),
            marked_moment(url, "test", lambda: None, patience_s=0.5),
        ):
            pass

        def tick() -> None:
            waited.append(len(waited))
            if len(waited) == 4:
                writer.commit()

        with marked_moment(url, "test", tick) as moment:
            assert moment.connection.exec_driver_sql("SELECT count(*) FROM public.days_old").scalar_one() == 0
            writer.execute("INSERT INTO days VALUES ('2025-12-31', 1)")  # nobody waits any more
            writer.commit()
            assert moment.connection.exec_driver_sql("SELECT count(*) FROM public.days_old").scalar_one() == 0
    assert len(waited) >= 4


def test_no_secret_is_an_argument(points_of: Callable[[str], Points], tmp_path: Path) -> None:
    """The tools find the password in their environment, and nobody else finds it in the list of processes."""
    points = points_of("log")
    points.url = sa.make_url(points.url).set(password="swordfish").render_as_string(hide_password=False)
    heard = tmp_path / "heard"
    spy = f'printf "%s\\n" "$0 $*" "in the environment: $PGPASSWORD" >> {heard}; exec "{{tool}}" "$@"'
    points.tools = _tools(points.tools, tmp_path, **dict.fromkeys(["pg_dump", "pg_basebackup", "pg_receivewal"], spy))
    full = points.take()
    arguments = [line for line in heard.read_text().splitlines() if not line.startswith("in the environment")]
    assert len(arguments) >= 3
    assert not any("swordfish" in line for line in arguments)
    assert heard.read_text().count("in the environment: swordfish") >= 3
    assert "swordfish" not in full.manifest.to_json().decode()


def _raise_in(phase: str, error: Exception) -> Callable[..., None]:
    def stop() -> None:
        raise error

    return _call_in(phase, stop)


def _call_in(phase: str, call: Callable[[], None]) -> Callable[..., None]:
    def progress(now: str, _done: int, _total: int | None = None) -> None:
        if now == phase:
            call()

    return progress


def _tools(real: Path, made: Path, **scripts: str) -> Path:
    """Make a directory with the real tools, some of them behind a script: `{tool}` in it is the real one."""
    made = made / "tools"
    made.mkdir(parents=True)
    for path in real.iterdir():
        if path.name not in scripts:
            (made / path.name).symlink_to(path.resolve())
    for name, script in scripts.items():
        tool = (real / name).resolve()
        asked = f'[ "$1" = --version ] && exec "{tool}" --version\n' if "(PostgreSQL)" not in script else ""
        (made / name).write_text(f"#!/bin/sh\n{asked}{script.replace('{tool}', str(tool))}\n")
        (made / name).chmod(0o755)
    return made
