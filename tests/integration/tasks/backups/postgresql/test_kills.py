"""Kills at any moment of a capture: the server keeps nothing of it, and the next point is as good as any."""

from __future__ import annotations

import random
import signal
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.tasks.backups.postgresql import capturing_process
from tests.integration.tasks.backups.postgresql.writing import libpq, writing
from tests.support.processes import spawned
from tests.support.waiting import pause, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.tasks.backups.postgresql.points import Points

_KILLS = 12
_LEFT = """
    SELECT (SELECT count(*) FROM pg_replication_slots WHERE temporary),
        (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightcrew-backup'
            OR (backend_type = 'walsender' AND pid <> pg_backend_pid()))
"""


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", ["blocks", "log"])
def test_a_killed_capture_leaves_nothing_on_the_server(points_of: Callable[[str], Points], way: str, seed: int) -> None:
    """`kill -9` at random moments: sessions and temporary slots end by themselves, and chains go on."""
    chance, points = random.Random(seed), points_of(way)
    with writing(points.url, seed):
        point = points.take()
        for _ in range(_KILLS):
            _capture_and_kill(points, chance.uniform(0.2, 4))
            wait_until(lambda: _is_tidy(points), timeout_s=60, what="a server without our sessions and slots")
            point = points.take(point)
            assert point.capture.is_delta
    points.restore(point)


def _capture_and_kill(points: Points, after_s: float) -> None:
    arguments: list[str | Path] = [points.url, points.tools, points.stage().directory]
    with spawned([sys.executable, "-m", capturing_process.__name__, *arguments]) as capture:
        pause(after_s)
        capture.send(signal.SIGKILL)  # it alone: its tools hear of it from the kernel
        capture.wait(timeout_s=60)


def _is_tidy(points: Points) -> bool:
    with psycopg.connect(libpq(points.url)) as connection:
        return connection.execute(_LEFT).fetchone() == (0, 0)
