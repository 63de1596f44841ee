"""What a proven restore point lets the log forget, and what every restore point keeps its compaction from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from nightcrew import wire
from tasks.backups.points import LogPosition
from tasks.backups.store import points
from tasks.backups.store.borders import log_borders
from tasks.backups.store.points import FoundPoint
from tasks.runtime import Runtime
from tasks.transactions import begin_write
from tasks.usage.operations import keep_partition, note_proven
from tasks.usage.store import SqlUsageCounts
from tests.integration.tasks.usage.test_replay import LATER, copy_of, position_of, prove, restored
from tests.unit.tasks.backups.histories import full

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.tasks.usage.conftest import Crew


def proven(crew: Crew) -> str | None:
    return position_of(crew).proven_id


def note(crew: Crew, epoch: str, entry_id: str, *, partition: int = 0) -> str | None:
    with begin_write(crew.engine) as connection:
        note_proven(connection, {partition: (epoch, entry_id)})
    return proven(crew)


def stand(crew: Crew) -> LogPosition:
    position = position_of(crew)
    return LogPosition(epoch=position.epoch, last_id=position.last_id)


def keep(crew: Crew, point_ids: dict[str, LogPosition]) -> None:
    """Write points down that were taken at these positions."""
    found = [replace(full(point_id), log_positions={0: at}) for point_id, at in point_ids.items()]
    with begin_write(crew.engine) as connection:
        rows = [FoundPoint(point=one, stored_at=one.finished_at) for one in found]
        points.adopt(connection, rows, vault="primary")


def keep_house(crew: Crew) -> None:
    """Do what the timetable has done each minute, after a few days."""
    runtime = Runtime(
        engine=crew.engine,
        redis=crew.redis,
        publisher=cast("Any", None),
        timetable={},
        worker_name="usage@test",
        clock=lambda: LATER,
        log_borders=lambda partition, epoch: log_borders(crew.engine, partition, epoch),
    )
    keep_partition(runtime, 0)


def test_a_proof_moves_forward_only(crew: Crew) -> None:
    """Ids are compared as the numbers they are: as text, 9-10 would come before 9-9."""
    first = crew.log_add({"a": 1})
    crew.drain()
    epoch, milliseconds = position_of(crew).epoch, int(first.partition("-")[0]) + 60_000
    for sequence in (9, 10):
        crew.redis.xadd(wire.usage_stream(0), {"v": "0"}, id=f"{milliseconds}-{sequence}")
    crew.drain()
    assert proven(crew) is None
    assert note(crew, epoch, f"{milliseconds}-9") == f"{milliseconds}-9"
    assert note(crew, epoch, f"{milliseconds}-10") == f"{milliseconds}-10"
    assert note(crew, epoch, f"{milliseconds}-9") == f"{milliseconds}-10"
    assert note(crew, epoch, first) == f"{milliseconds}-10"


def test_a_proof_goes_no_further_than_the_counts(crew: Crew) -> None:
    """Counts that were restored from an older point still need what that newer point contained."""
    first = crew.log_add({"a": 1})
    crew.drain()
    milliseconds = int(first.partition("-")[0])
    assert note(crew, position_of(crew).epoch, f"{milliseconds * 10}-0") == first


def test_a_proof_is_of_one_log(crew: Crew) -> None:
    """A point of before Redis was wiped says nothing of the log that took its place, nor does what was proven then."""
    first = crew.log_add({"a": 1})
    crew.drain()
    old = position_of(crew).epoch
    assert note(crew, "another", first) is None
    assert note(crew, old, first, partition=7) is None
    assert note(crew, old, first) == first
    crew.redis.flushall()
    second = crew.log_add({"a": 1})
    crew.drain()
    assert position_of(crew).epoch != old
    assert proven(crew) is None
    assert note(crew, old, second) is None
    assert note(crew, position_of(crew).epoch, second) == second


def test_nothing_is_noted_where_the_proof_is_not(crew: Crew) -> None:
    """It stands or falls with the transaction in which the point is marked."""
    first = crew.log_add({"a": 1})
    crew.drain()

    def prove_and_fail() -> None:
        with begin_write(crew.engine) as connection:
            note_proven(connection, {0: (position_of(crew).epoch, first)})
            raise InterruptedError

    with pytest.raises(InterruptedError):
        prove_and_fail()
    assert proven(crew) is None


def test_any_kept_point_replays_exactly(sqlite_crew: Crew, tmp_path: Path) -> None:
    """The log is compacted between the points, never across one; each of them comes back to the same counts."""
    copies = [copy_of(sqlite_crew, tmp_path / "0.db")]
    positions = {}
    for number, entries in enumerate([3, 2, 1, 4], start=1):
        for _ in range(entries):
            sqlite_crew.log_add({"a": 1, f"b.{number}": 1})
        sqlite_crew.drain()
        copies.append(copy_of(sqlite_crew, tmp_path / f"{number}.db"))
        positions[f"{number:012x}"] = stand(sqlite_crew)
    keep(sqlite_crew, positions)
    keep_house(sqlite_crew)
    assert sqlite_crew.redis.xlen(wire.usage_stream(0)) == 0
    assert sqlite_crew.redis.xlen(wire.usage_segments(0)) == 4
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    for copy in copies:
        with restored(sqlite_crew, copy) as older:
            older.drain()
            assert older.counted() == sqlite_crew.counted()
            older.check_history()


def test_what_no_kept_point_needs_becomes_one(sqlite_crew: Crew) -> None:
    """A point that was let go, or that is of another log, is no border."""
    entries = [sqlite_crew.log_add({"a": 1}) for _ in range(6)]
    sqlite_crew.drain()
    keep(sqlite_crew, {"0" * 12: LogPosition(epoch="another", last_id=entries[2])})
    keep_house(sqlite_crew)
    assert sqlite_crew.redis.xlen(wire.usage_segments(0)) == 1


def test_a_border_in_a_gap_holds_nothing_up(sqlite_crew: Crew) -> None:
    """A point may stand at a flush that came twice and was deleted: what lies behind it is compacted all the same."""
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    borders = {"0" * 12: stand(sqlite_crew)}
    sqlite_crew.log_add({"a": 1}, seq=2)
    sqlite_crew.drain()
    borders["1" * 12] = stand(sqlite_crew)
    for _ in range(3):
        sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    keep(sqlite_crew, borders)
    keep_house(sqlite_crew)
    assert sqlite_crew.redis.xlen(wire.usage_stream(0)) == 0
    assert sqlite_crew.redis.xlen(wire.usage_segments(0)) == 2


def test_proven_points_are_forgotten_and_later_ones_kept(sqlite_crew: Crew, tmp_path: Path) -> None:
    """The log begins behind the newest proof; the points that came after it replay exactly."""
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    prove(sqlite_crew)
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    later = copy_of(sqlite_crew, tmp_path / "later.db")
    keep(sqlite_crew, {"0" * 12: stand(sqlite_crew)})
    for _ in range(2):
        sqlite_crew.log_add({"a": 1})
    sqlite_crew.drain()
    keep_house(sqlite_crew)
    assert SqlUsageCounts(sqlite_crew.engine).position(0) is not None
    with restored(sqlite_crew, later) as older:
        older.drain()
        assert older.counted() == sqlite_crew.counted() == {"a": 4}


def test_the_young_stay_raw_whatever_borders_there_are(sqlite_crew: Crew) -> None:
    """A border is no reason to compact what any copy of the last day may still stand in."""
    for _ in range(3):
        sqlite_crew.log_add({"a": 1})
        sqlite_crew.drain()
        keep(sqlite_crew, {f"{sqlite_crew.seq:012x}": stand(sqlite_crew)})
    runtime = Runtime(
        engine=sqlite_crew.engine,
        redis=sqlite_crew.redis,
        publisher=cast("Any", None),
        timetable={},
        worker_name="usage@test",
        clock=lambda: LATER - timedelta(days=3),
        log_borders=lambda partition, epoch: log_borders(sqlite_crew.engine, partition, epoch),
    )
    keep_partition(runtime, 0)
    assert sqlite_crew.redis.xlen(wire.usage_stream(0)) == 3
