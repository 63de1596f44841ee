"""A crew that is well as long as nobody asks for its workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from nightcrew import wire
from schedules.timetable import timetable_of
from tests.support.processes import WITHOUT_BACKUPS
from workers.doctor import Patient
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis import RedisServer


@pytest.fixture
def patient(tmp_path: Path, sqlite_url: str, redis_server: RedisServer) -> Iterator[Patient]:
    """Give a crew on a fresh database in `tmp_path`, whose beat has just given a sign of life."""
    settings = load_settings(tmp_path, env={"NIGHTCREW_BROKER__URL": redis_server.url, **WITHOUT_BACKUPS})
    assert settings.database_url == sqlite_url
    runtime = build_runtime(settings, broker_url=redis_server.url, worker_name="doctor@test")
    runtime.redis.set(wire.BEAT_HEARTBEAT, repr(time.time()))
    yield Patient(
        settings=settings,
        broker_url=redis_server.url,
        runtime=runtime,
        timetable=timetable_of(backups=False, hourly=False, second_vault=False),
        answer_within_s=0.1,
    )
    close_runtime(runtime)
