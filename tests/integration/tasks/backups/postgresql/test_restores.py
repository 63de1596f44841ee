"""A restore that is not equal is no restore, and the server that it runs on is nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from tasks.backups.staging import Link
from tasks.backups.store.captures.postgresql import load_dump, private_server, restore_database
from tasks.backups.store.captures.postgresql.restoring import NotEqualError
from tasks.backups.store.programs import ProgramMissingError
from tasks.errors import CancelledError, PermanentError
from tests.integration.tasks.backups.postgresql.points import LIMITS, points_on
from tests.integration.tasks.backups.postgresql.writing import libpq
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import sqlalchemy as sa

    from tests.integration.tasks.backups.postgresql.points import Point, Points
    from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def chain(start_server: Callable[[str], PostgresServer]) -> Iterator[tuple[Points, Point]]:
    """Give a full and two increments of a server with settings that no restored one can use."""
    with short_directory() as directory, points_on(start_server("blocks"), directory) as points:
        directory.chmod(0o755)
        with psycopg.connect(libpq(points.url), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET archive_command = 'touch /nowhere/reached'")
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'is_nowhere'")
            point = points.take()
            for day in ("2026-03-01", "2026-03-02"):
                connection.execute("INSERT INTO days SELECT %s::date, i FROM generate_series(1, 500) i", [day])
                point = points.take(point)
            connection.execute("ALTER SYSTEM RESET ALL")
        yield points, point


def test_a_chain_that_is_not_one_is_refused(chain: tuple[Points, Point]) -> None:
    """Without its middle, with another log, base or other expectations: no restore says that it is well."""
    points, last = chain
    full, middle, newest = last.links()
    refused: list[tuple[list[Link], type[Exception], str]] = [
        ([full, newest], PermanentError, "pg_combinebackup failed"),
        ([full, middle, _with(newest, middle, "wal.tar.zst")], PermanentError, "does not start"),
        ([full, _with(middle, full, "base.tar.zst"), newest], PermanentError, "pg_verifybackup failed"),
        ([full, middle, _expecting(newest, middle)], NotEqualError, "days_new has 1030 rows instead of 530"),
    ]
    for links, kind, words in refused:
        with pytest.raises(kind, match=words):
            restore_database(links, points.stage(), tools=points.tools)


def test_a_restored_directory_is_ours_alone(chain: tuple[Points, Point]) -> None:
    """Settings of the source are kept aside; nobody reaches the server over a network; it ends when it is left."""
    points, last = chain
    cluster = points.restore(last).cluster
    assert cluster is not None
    assert "is_nowhere" in (cluster / "postgresql.auto.conf.source").read_text()
    assert (cluster / "postgresql.auto.conf").read_text() == ""
    assert not (cluster / "recovery.signal").exists()
    assert not (cluster / "postmaster.pid").exists()
    assert "postgres -D cluster" in (cluster.parent / "README.txt").read_text()
    with _server(points, last, cluster, lambda: None) as url, psycopg.connect(_libpq(url)) as connection:
        for setting, value in {"listen_addresses": "", "autovacuum": "off", "archive_mode": "off"}.items():
            assert connection.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,)
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM days").fetchone() == (1060,)
    assert not (cluster / "postmaster.pid").exists()
    _assert_failures_are_told(points, last, cluster)


def test_what_is_not_there_is_not_restored(points_of: Callable[[str], Points], directory: Path) -> None:
    """A dump gives no data directory, an increment no dump, and without the server's version there is none."""
    points = points_of("log")
    full = points.take()
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute("DELETE FROM days")
    increment = points.take(full)
    with pytest.raises(PermanentError, match="it has no dump"):
        points.restore(increment, as_cluster=False)
    (directory / "no tools").mkdir()
    points.tools = directory / "no tools"
    with pytest.raises(ProgramMissingError, match="sudo apt-get install postgresql-client-18"):
        points.restore(increment)


def test_a_dump_is_loaded_into_an_empty_database_alone(points_of: Callable[[str], Points]) -> None:
    """The live database is never loaded into, and a dump that is cut short is an error."""
    points = points_of("neither")
    full = points.take()
    with pytest.raises(PermanentError, match="dump alone"):
        points.restore(full)
    dump = points.restore(full, as_cluster=False).dump
    assert dump is not None
    with pytest.raises(PermanentError, match="has tables already"):
        load_dump(dump, points.url, points.stage(), tools=points.tools)


def _assert_failures_are_told(points: Points, last: Point, cluster: Path) -> None:
    """See what becomes of a server that is called off while it starts, killed in the block, or cannot start."""

    def stop() -> None:
        raise CancelledError("called off")

    with pytest.raises(CancelledError), _server(points, last, cluster, stop):
        pass
    with (
        pytest.raises(PermanentError, match="did not stop in order"),
        _server(points, last, cluster, lambda: None),
    ):
        os.kill(int((cluster / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    (cluster / "global" / "pg_control").unlink()
    (cluster / "postmaster.pid").unlink()
    with (
        pytest.raises(PermanentError, match=r"does not start: .*could not"),
        _server(points, last, cluster, lambda: None),
    ):
        pass


def _with(link: Link, other: Link, member: str) -> Link:
    """Swap a member for that of another point."""
    directory = link.directory.with_name(f"{link.directory.name}.{other.directory.name}.{member}")
    shutil.copytree(link.directory, directory)
    shutil.copyfile(other.directory / "database" / member, directory / "database" / member)
    return Link(manifest=link.manifest, directory=directory)


def _expecting(link: Link, other: Link) -> Link:
    """Expect what the tables held at another point."""
    assert link.manifest.database is not None
    assert other.manifest.database is not None
    database = link.manifest.database.model_copy(update={"tables": other.manifest.database.tables})
    return Link(manifest=link.manifest.model_copy(update={"database": database}), directory=link.directory)


def _server(points: Points, point: Point, cluster: Path, tick: Callable[[], None]) -> AbstractContextManager[sa.URL]:
    details = point.expected.details
    return private_server(
        cluster, role=details["role"], database=details["database"], tools=points.tools, limits=LIMITS, tick=tick
    )


def _libpq(url: sa.URL) -> str:
    return libpq(url.render_as_string(hide_password=False))
