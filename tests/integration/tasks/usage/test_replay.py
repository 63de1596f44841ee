"""An older database, brought up to date by the log."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from nightcrew import wire
from nightcrew.signing import Guard, Signer, SigningKey
from tasks.runtime import UsageOptions
from tasks.transactions import begin_write
from tasks.usage.housekeeping import compact_log, keep_house
from tasks.usage.operations import note_proven
from tasks.usage.position import LogGapError
from tasks.usage.store import RedisUsageLog, SqlUsageCounts, UsageQueries
from tests.support.databases import opened_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.usage.position import Incident, Position
    from tests.integration.tasks.usage.conftest import Crew

LATER = datetime.now(UTC) + timedelta(days=3)
"""When everything logged by a test is old enough to be compacted."""


def copy_of(crew: Crew, path: Path) -> Path:
    """Copy the SQLite file while it is in use."""
    with sqlite3.connect(str(crew.engine.url.database)) as source, sqlite3.connect(path) as target:
        source.backup(target)
    target.close()
    source.close()
    return path


@contextmanager
def restored(crew: Crew, copy: Path) -> Iterator[Crew]:
    """Open the copy in the place of the database."""
    with opened_engine(f"sqlite:///{copy}") as engine:
        yield replace(crew, engine=engine)


def position_of(crew: Crew) -> Position:
    position = SqlUsageCounts(crew.engine).position(0)
    assert position is not None
    return position


def prove(crew: Crew) -> None:
    """Note that a copy as the database is now was restored and found equal."""
    position = position_of(crew)
    with begin_write(crew.engine) as connection:
        note_proven(connection, {0: (position.epoch, position.last_id)})


def compact(crew: Crew, *, now: datetime, guard: Guard | None = None) -> int:
    log, counts = RedisUsageLog(crew.redis), SqlUsageCounts(crew.engine)
    return compact_log(log, counts, UsageOptions(), partition=0, position=position_of(crew), now=now, guard=guard)


def incidents_of(crew: Crew) -> list[Incident]:
    return [one for _, _, one in UsageQueries(crew.engine).incidents(since=datetime(2020, 1, 1, tzinfo=UTC))]


def test_older_copy_counts_exactly_again(sqlite_crew: Crew, tmp_path: Path) -> None:
    """A copy from before increments, a retry and a reset ends with the same counts and the same history."""
    sqlite_crew.log_add({"a": 5, "b": 1})
    sqlite_crew.drain()
    copy = copy_of(sqlite_crew, tmp_path / "older.db")
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.log_add({"a": 1}, seq=2)
    sqlite_crew.log_reset("a")
    sqlite_crew.log_add({"a": 7, "c": 2})
    sqlite_crew.drain()
    with restored(sqlite_crew, copy) as older:
        assert older.counted() == {"a": 5, "b": 1}
        older.drain()
        assert older.counted() == sqlite_crew.counted() == {"a": 7, "b": 1, "c": 2}
        assert UsageQueries(older.engine).sums() == UsageQueries(sqlite_crew.engine).sums()


def test_compacted_log_replays_alike(sqlite_crew: Crew, tmp_path: Path) -> None:
    """Segments bring an empty database to the same counts as the entries did, in far less memory."""
    copy = copy_of(sqlite_crew, tmp_path / "empty.db")
    for _ in range(300):
        sqlite_crew.log_add({f"key.{n}": 1 for n in range(40)})
    sqlite_crew.log_reset("key.0")
    sqlite_crew.log_add({"key.0": 9})
    sqlite_crew.drain()
    log = RedisUsageLog(sqlite_crew.redis)
    before = log.memory_bytes(0)
    merged = compact(sqlite_crew, now=LATER)
    assert merged == 302
    assert log.memory_bytes(0) < before / 20
    sqlite_crew.log_add({"key.1": 1})
    sqlite_crew.drain()
    with restored(sqlite_crew, copy) as older:
        older.drain()
        assert older.counted() == sqlite_crew.counted()
        older.check_history()


def test_young_entries_stay_raw(sqlite_crew: Crew) -> None:
    """What is younger than `compact_after` is left as it is, since any copy may come from that time."""
    for _ in range(10):
        sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    assert compact(sqlite_crew, now=datetime.now(UTC)) == 0


def test_a_key_that_is_gone_takes_no_counts_along(sqlite_crew: Crew, tmp_path: Path) -> None:
    """What was counted when its key was known stays in the compacted log, and is told; what was refused stays out."""
    copy = copy_of(sqlite_crew, tmp_path / "empty.db")
    known, strange, next_key = (SigningKey.generate(name) for name in ("known", "strange", "next"))
    sqlite_crew.log_add({"a": 1}, signer=Signer([known]))
    sqlite_crew.log_add({"a": 10}, signer=Signer([strange]))
    sqlite_crew.log_add({"a": 100}, signer=Signer([next_key]))
    sqlite_crew.drain(guard=Guard([known, next_key]))
    assert compact(sqlite_crew, now=LATER, guard=Guard([next_key])) == 3
    assert sqlite_crew.redis.xlen(wire.usage_stream(0)) == 0
    [told] = incidents_of(sqlite_crew)
    assert (told.kind, told.detail[:9]) == ("signature_unknown", "1 entries")
    with restored(sqlite_crew, copy) as older:
        older.drain(guard=Guard([next_key]))
        assert older.counted() == sqlite_crew.counted() == {"a": 101}


def test_what_the_database_refused_stays_out_of_the_compacted_log(sqlite_crew: Crew, tmp_path: Path) -> None:
    """Else the whole segment would be refused when it is replayed, and its good counts with it."""
    copy = copy_of(sqlite_crew, tmp_path / "empty.db")
    largest = 2**53 - 1
    for number in range(1_025):
        sqlite_crew.log_add({"a": largest, f"b.{number}": 1})
    report = sqlite_crew.drain()
    assert report.rejected > 0
    compact(sqlite_crew, now=LATER)
    with restored(sqlite_crew, copy) as older:
        assert older.drain().rejected == 0
        assert older.counted() == sqlite_crew.counted()


def test_copy_from_inside_a_segment_is_refused(sqlite_crew: Crew, tmp_path: Path) -> None:
    """A copy whose position was merged away cannot be made exact, and is left as it is."""
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    copy = copy_of(sqlite_crew, tmp_path / "older.db")
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    compact(sqlite_crew, now=LATER)
    with restored(sqlite_crew, copy) as older:
        with pytest.raises(LogGapError, match="inside the compacted stretch"):
            older.drain()
        assert older.counted() == {"a": 1}


def test_restore_point_is_a_border_of_segments(sqlite_crew: Crew, tmp_path: Path) -> None:
    """A copy taken as a restore point replays exactly, whatever was compacted around it."""
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    copy = copy_of(sqlite_crew, tmp_path / "point.db")
    prove(sqlite_crew)
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    assert compact(sqlite_crew, now=LATER) == 4
    with restored(sqlite_crew, copy) as older:
        older.drain()
        assert older.counted() == {"a": 4}


def test_proven_entries_are_forgotten(sqlite_crew: Crew, tmp_path: Path) -> None:
    """The log goes up to the proven position; a copy from before it is refused, one from it is not."""
    empty = copy_of(sqlite_crew, tmp_path / "empty.db")
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    proven = copy_of(sqlite_crew, tmp_path / "proven.db")
    counts = SqlUsageCounts(sqlite_crew.engine)
    prove(sqlite_crew)
    sqlite_crew.log_add({"a": 2})
    sqlite_crew.drain()
    log, position = RedisUsageLog(sqlite_crew.redis), position_of(sqlite_crew)
    keep_house(log, counts, UsageOptions(), partition=0, position=position, now=datetime.now(UTC))
    assert sqlite_crew.redis.xlen(wire.usage_stream(0)) == 1
    with restored(sqlite_crew, proven) as older:
        older.drain()
        assert older.counted() == {"a": 3}
    with restored(sqlite_crew, empty) as older, pytest.raises(LogGapError, match="forgotten up to"):
        older.drain()


def test_cap_is_kept_and_told(sqlite_crew: Crew) -> None:
    """Over its cap the log forgets what is applied, never what is not, and leaves an incident."""
    sqlite_crew.log_add({f"key.{n}": 1 for n in range(2_000)})
    sqlite_crew.drain()
    sqlite_crew.log_add({"unapplied": 1})
    options = UsageOptions(log_cap_bytes=1_000)
    log, counts = RedisUsageLog(sqlite_crew.redis), SqlUsageCounts(sqlite_crew.engine)
    for _ in range(2):
        keep_house(log, counts, options, partition=0, position=position_of(sqlite_crew), now=datetime.now(UTC))
    assert "trimmed_unproven" in [incident.kind for incident in incidents_of(sqlite_crew)]
    sqlite_crew.drain()
    assert sqlite_crew.counted()["unapplied"] == 1
