"""Points of a long history, thinned out by the retention, all restore and prove: whichever one is needed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations.drilling import drill_point, list_drills
from tests.integration.tasks.backups.drills.history import BEGIN, AgingCrew, at

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.support.redis import RedisServer


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> AgingCrew:
    return AgingCrew(sqlite_engine, redis_server.client(), tmp_path, seed)


def prove_some(crew: AgingCrew, days: int, count: int) -> None:
    """Live, choose points at random, and drill each of them."""
    crew.live(days)
    points = crew.points()
    assert len(points) < days, "the retention has let some go"
    assert {point.kind for point in points} == {"full", "incremental", "differential"}
    chosen = crew.random.sample(points, count)
    with at(BEGIN + timedelta(days=days)):
        for point in chosen:
            drill = drill_point(crew.runtime, point.id)
            assert (drill.point_id, drill.verdict, drill.reason) == (point.id, Verdict.PASS, drill.reason)
    proven = {point.id for point in crew.points() if point.proven_at is not None}
    assert proven == {point.id for point in chosen}
    drills = list_drills(crew.runtime)
    assert len(drills) == count
    deepest = max(drills, key=lambda one: one.sequence)
    print(f"{len(points)} of {days} points kept; {count} proven, the deepest on {deepest.sequence} deltas")  # noqa: T201


@pytest.mark.long
@pytest.mark.timeout(300)
def test_points_of_some_weeks_prove(crew: AgingCrew) -> None:
    """A short history, of which a few points are kept."""
    crew.daily, crew.weekly, crew.monthly = 5, 1, 1
    prove_some(crew, 24, 4)


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_fifty_points_of_half_a_year_prove(crew: AgingCrew) -> None:
    """Fulls, incrementals and differentials, as the retention has left them."""
    prove_some(crew, 182, 50)
