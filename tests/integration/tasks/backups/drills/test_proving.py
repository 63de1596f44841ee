"""What people see of restore tests, from what the tables say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.backups.drills.records import Timing
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.forecast import Workload, predict
from tasks.backups.operations.proving import drill_of_run, drills_of_point, look_at_proofs, past_drills, report_page
from tasks.backups.store import points
from tasks.backups.store.drills.book import add_drill
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import Crew
from tests.unit.tasks.backups.drills.drilled import drill

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.backups.drills.records import Drill
    from tests.support.redis import RedisServer


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    return Crew(sqlite_engine, redis_server.client(), tmp_path, seed)


def add(crew: Crew, made: Drill) -> Drill:
    return add_drill(crew.engine, crew.runtime.attempt, made)


def test_slow_drills_make_the_next_increment_a_full_and_say_so(crew: Crew) -> None:
    """Three restores of a point took far longer than forecast: with a delta more the target would be missed."""
    crew.full()
    [full] = crew.points()
    alone_s = predict(Workload(size_bytes=full.size_bytes)).seconds
    target_s = crew.options.target_rto.total_seconds()
    slow = Timing(fetch_s=0.0, apply_s=0.0, validate_s=target_s * 0.9)
    for _ in range(3):
        add(crew, drill(id=None, timing=slow, size_bytes=full.size_bytes, profile="settings"))
    crew.change_some()
    assert crew.incremental()["kind"] == "incremental", "another profile was measured"
    for _ in range(3):
        add(crew, drill(id=None, timing=slow, size_bytes=full.size_bytes))
    crew.change_some()
    promoted = crew.incremental()
    assert (promoted["kind"], promoted["asked"]) == ("full", "incremental")
    assert promoted["reason"].startswith("a restore would take ")
    assert promoted["reason"].endswith("(3 measured restores)")
    newest = crew.points()[0]
    assert newest.predicted_rto_s == pytest.approx(target_s * 0.9 / alone_s * _constant_s(newest.size_bytes), rel=1e-6)


def _constant_s(size_bytes: int) -> float:
    return predict(Workload(size_bytes=size_bytes)).seconds


def test_a_proof_shows_everywhere_until_the_point_is_damaged(crew: Crew) -> None:
    """Share, what could be restored to, the newest drill, and the page that is made of them."""
    crew.full()
    [full] = crew.points()
    before = look_at_proofs(crew.runtime)
    assert (before.coverage.proven, before.reachable, before.newest, before.overdue) == (0, None, None, "")
    now = crew.runtime.clock()
    passed = add(crew, drill(12.0, id=None, run_id="r1", point_id=full.id, finished_at=now - timedelta(minutes=1)))
    with begin_write(crew.engine) as connection:
        points.mark_proven(connection, full.id, at=passed.finished_at)
    proven = look_at_proofs(crew.runtime)
    assert proven.reachable is not None
    assert (proven.coverage.proven, proven.reachable.point_id, proven.reachable.rto_s) == (1, full.id, 12.0)
    assert proven.newest == passed
    failed = add(crew, replace(passed, id=None, run_id="r2", verdict=Verdict.FAIL, finished_at=now))
    with begin_write(crew.engine) as connection:
        points.mark_damaged(connection, [full.id], reason="a row is gone")
    after = look_at_proofs(crew.runtime)
    assert (after.coverage.proven, after.reachable, after.newest) == (0, None, failed)
    assert drill_of_run(crew.runtime, "r1") == passed
    assert drill_of_run(crew.runtime, "r3") is None
    assert drills_of_point(crew.runtime, full.id) == [failed, passed]
    listed = past_drills(crew.runtime)
    assert [one["id"] for one in listed["drills"]] == [failed.id, passed.id]
    assert [one["restores"] for one in listed["times"]] == [1]
    assert listed["drills"][0]["mutants"] == {"killed": 3, "total": 3, "survivors": []}
    assert f"{full.id}" in report_page(crew.runtime)
