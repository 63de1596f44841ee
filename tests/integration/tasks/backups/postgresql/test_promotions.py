"""Where no increment may rest on what there is, a whole point is taken, and says why."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from tasks.backups.postgresql.comparing import differences
from tasks.backups.store.captures.postgresql import PostgresqlSource, release_logs
from tasks.errors import PermanentError, TransientError
from tests.integration.tasks.backups.postgresql.writing import libpq
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.tasks.backups.postgresql.points import Points
    from tests.support.postgres import PostgresServer


@pytest.fixture
def limited(points_of: Callable[[str], Points]) -> Points:
    """Give a database that is reached with a role that owns it, and may do nothing else."""
    points = points_of("blocks")
    role = f"owner_of_{sa.make_url(points.url).database}"
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'swordfish'".encode())
        tables = connection.execute("SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables.fetchall():
            connection.execute(f"ALTER TABLE {table} OWNER TO {role}".encode())
    points.url = sa.make_url(points.url).set(username=role, password="swordfish").render_as_string(hide_password=False)
    return points


def test_a_role_without_replication_gets_dumps(limited: Points) -> None:
    """A full is a dump alone, an increment becomes a full, and the reason is a command that helps."""
    full = limited.take()
    assert full.members == {"dump.pgc.zst"}
    assert full.expected.method == "dump"
    again = limited.take(full)
    assert not again.capture.is_delta
    assert again.capture.promoted_because is not None
    assert "REPLICATION: ALTER ROLE" in again.capture.promoted_because
    assert full.expected.details["increments"] == again.capture.promoted_because
    assert differences(full.expected, again.expected) == []


def test_a_table_that_may_not_be_read_fails_the_dump(limited: Points) -> None:
    """No point is taken that leaves out what the role cannot read."""
    with psycopg.connect(libpq(limited.url), autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON usage_counts FROM CURRENT_USER")
    with pytest.raises(PermanentError, match="permission denied for table usage_counts"):
        limited.take()


def test_a_log_that_the_server_has_deleted_is_missed(points_of: Callable[[str], Points]) -> None:
    """The server keeps its log for the next increment; without its slot it forgets it, and the next one is a full."""
    points = points_of("log")
    full = points.take()
    _write_much(points)
    increment = points.take(full)
    assert increment.capture.is_delta
    release_logs(points.url, wanted={"another"})
    _write_much(points)
    promoted = points.take(increment)
    assert not promoted.capture.is_delta
    assert "has already been removed" in (promoted.capture.promoted_because or "")
    _write_much(points)
    assert points.take(promoted).capture.is_delta


def test_the_log_is_kept_for_profiles_that_are_wanted_alone(points_of: Callable[[str], Points]) -> None:
    """A profile that is gone from the settings holds nothing back, and those of other databases are not touched."""
    points = points_of("log")
    points.take()
    foreign = "SELECT pg_create_physical_replication_slot('nightcrew_default_00000000', true)"
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute(foreign)
        try:
            release_logs(points.url, wanted={"default"})
            assert len(_slots(connection)) == 2
            release_logs(points.url, wanted={"another"})
            assert _slots(connection) == ["nightcrew_default_00000000"]
        finally:
            connection.execute("SELECT pg_drop_replication_slot('nightcrew_default_00000000')")


def test_too_little_room_is_told_before_the_server_is_troubled(points_of: Callable[[str], Points]) -> None:
    """What is there, and what is needed; nothing is begun."""
    points = points_of("log")
    stage = points.stage()
    source = PostgresqlSource(points.url, tools=points.tools, spare_bytes=shutil.disk_usage(stage.directory).total)
    with pytest.raises(TransientError, match=r"has .* left, and about .* are needed"):
        source.capture(stage)
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        assert _slots(connection) == []
    assert not list(stage.directory.iterdir())


def _slots(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in connection.execute("SELECT slot_name FROM pg_replication_slots ORDER BY 1")]


def test_missing_summaries_are_missed(
    points_of: Callable[[str], Points], start_server: Callable[[str], PostgresServer]
) -> None:
    """The server cannot tell which blocks have changed since the parent: the next increment is a full."""
    points = points_of("blocks")
    full = points.take()
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute("DELETE FROM days")
        connection.execute("CHECKPOINT")
        ended = "SELECT count(*) FROM pg_available_wal_summaries() WHERE end_lsn > %s::pg_lsn"
        until = full.expected.details["until"]
        wait_until(lambda: connection.execute(ended, [until]).fetchone() != (0,), timeout_s=30, what="a summary")
    for summary in (start_server("blocks").directory / "cluster" / "pg_wal" / "summaries").iterdir():
        summary.unlink()
    promoted = points.take(full)
    assert not promoted.capture.is_delta
    assert "WAL summaries are required" in (promoted.capture.promoted_because or "")
    assert promoted.members == full.members
    (promoted.directory / "database" / "backup_manifest.zst").write_bytes(b"nothing of the kind")
    again = points.take(promoted)
    assert "the parent does not have what an increment is taken against" in (again.capture.promoted_because or "")


def test_a_server_that_bounds_no_slot_gets_dumps(points_of: Callable[[str], Points]) -> None:
    """A slot that could fill the disk of the server is not made; the reason says what bounds it."""
    points = points_of("neither")
    full = points.take()
    assert full.members == {"dump.pgc.zst"}
    assert "max_slot_wal_keep_size" in full.expected.details["increments"]
    with psycopg.connect(libpq(points.url)) as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)


def _write_much(points: Points) -> None:
    """Have the server begin so many segments of its log that it deletes old ones, if it may."""
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        for _ in range(8):
            connection.execute("INSERT INTO days SELECT '2026-02-02', 1; SELECT pg_switch_wal(); CHECKPOINT")
