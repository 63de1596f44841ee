"""What was taken while others wrote comes back as it was at that moment: each point, in each way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from tasks.backups.postgresql.comparing import differences
from tasks.backups.store.captures.postgresql import load_dump, read_expectations
from tests.integration.tasks.backups.postgresql.points import ignore
from tests.integration.tasks.backups.postgresql.writing import counted, libpq, writing
from tests.support.databases import opened_engine
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.tasks.backups.postgresql.points import Point, Points
from tests.integration.tasks.backups.postgresql.writing import Writers


def test_each_point_of_a_chain_comes_back_equal(points: Points, seed: int) -> None:
    """A full, two increments and a differential, taken while writers write at full speed, are restored row for row."""
    with writing(points.url, seed) as writers:
        full = points.take()
        first = _take_after_writing(points, full, writers)
        second = _take_after_writing(points, first, writers)
        differential = _take_after_writing(points, full, writers)
    assert [point.capture.is_delta for point in (full, first, second, differential)] == [False, True, True, True]
    assert len(differential.links()) == 2
    points.restore(differential)  # compares each table; but for its parent it is what `first` is
    with points.restored(second) as connection:
        total, offset = counted(connection)
        connection.rollback()
        assert differences(second.expected, read_expectations(connection)) == []
    assert total == offset > 0
    assert [position.last_id for position in second.capture.log_positions] == [f"{offset}-0"]
    _assert_loads(points, full)


@pytest.mark.parametrize("way", ["blocks", pytest.param("log", marks=pytest.mark.long)])
def test_no_change_is_a_point_too(points_of: Callable[[str], Points], way: str) -> None:
    """Nothing changed: the point is its parent's moment, costs next to nothing, and carries the next increment."""
    points = points_of(way)
    full = points.take()
    same = points.take(full)
    assert same.capture.is_unchanged
    assert same.capture.is_delta
    assert same.members == ({"backup_manifest.zst"} if way == "blocks" else set())
    assert same.expected.tables == full.expected.tables
    assert same.capture.taken_at > full.capture.taken_at
    _execute(points, "DELETE FROM days_new")
    changed = points.take(same)
    assert not changed.capture.is_unchanged
    assert changed.capture.is_delta
    points.restore(changed)


def test_what_comes_after_the_moment_is_not_in_the_point(points_of: Callable[[str], Points]) -> None:
    """What is committed before the log is fetched, and after the snapshot, is in the log and not in the restore."""
    points = points_of("log")

    def write_before_the_log_is_fetched(phase: str, _done: int, _total: int | None = None) -> None:
        if phase == "write-ahead log":
            _execute(points, "SET synchronous_commit = on; INSERT INTO days VALUES ('2026-05-05', 5)")

    points.progress = write_before_the_log_is_fetched
    full = points.take()
    assert {table.name: table.rows for table in full.expected.tables}["days_new"] == 30
    points.progress = ignore
    points.restore(full)  # compares each table


def test_a_large_database_is_counted_and_not_read(points_of: Callable[[str], Points]) -> None:
    """Above the size, an increment writes down rows and ends of tables; its restore is compared with these."""
    points = points_of("log")
    points.read_whole_below_bytes = 0
    full = points.take()
    assert all(table.fingerprint for table in full.expected.tables)
    _execute(points, "INSERT INTO days VALUES ('2026-05-05', 5)")
    increment = points.take(full)
    assert not any(table.fingerprint for table in increment.expected.tables)
    assert {table.name: table.rows for table in increment.expected.tables}["days_new"] == 31
    assert increment.expected.unread


def _take_after_writing(points: Points, parent: Point, writers: Writers) -> Point:
    before = writers.transactions
    wait_until(lambda: writers.transactions > before + 50, timeout_s=30, what="fifty more transactions")
    return points.take(parent)


def _assert_loads(points: Points, full: Point) -> None:
    """See whether the dump of a full is loaded into an empty database row for row."""
    restored = points.restore(full, as_cluster=None)
    assert restored.dump is not None
    assert "pg_restore" in (restored.dump.parent / "README.txt").read_text()
    with _scratch_database(points) as url:
        load_dump(restored.dump, url, points.stage(), tools=points.tools)
        with opened_engine(url) as engine, engine.connect() as connection:
            assert differences(full.expected, read_expectations(connection)) == []


@contextmanager
def _scratch_database(points: Points) -> Iterator[str]:
    url = sa.make_url(points.url)
    name = f"{url.database}_scratch"
    _execute(points, f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(points, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(points: Points, statement: str) -> None:
    with psycopg.connect(libpq(points.url), autocommit=True) as connection:
        connection.execute(statement.encode())
