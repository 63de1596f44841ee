"""Items by the thousand that nobody should have put on a queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tasks.ledger.states import State
from tasks.ledger.store import queries
from tests.integration.workers.wire.crew import QUEUE, running_worker
from tests.integration.workers.wire.fuzzing import make_items
from tests.support import databases, wait_until
from workers.celery_config import unacked_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.workers.wire.crew import WorkerOnTrial
    from tests.support.redis import RedisServer

BATCH = 1_000
HELD = 300


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_nothing_in_a_queue_ends_a_worker_or_vanishes(
    redis_server: RedisServer, tmp_path: Path, seed: int, count: int
) -> None:
    """Every item is a dead letter at the end, or was a job after all and is done; the same process still works."""
    items = make_items(count, seed)
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client()) as worker:
        for start in range(0, count, BATCH):
            worker.put(*items[start : start + BATCH])
        wait_until(lambda: _is_done(worker), timeout_s=180, what="an empty queue", interval_s=0.1)
        with databases.opened_engine(f"sqlite:///{tmp_path / 'nightcrew.db'}") as engine:
            runs = queries.count_by_state(engine)
        assert set(runs) <= {State.SUCCEEDED}
        assert worker.letter_count() + runs.get(State.SUCCEEDED, 0) == count
        worker.run_canary()


def test_nothing_among_the_unacknowledged_ends_a_worker_or_vanishes(
    redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    """The same, found by the sweep for abandoned messages; half of them are wrapped as kombu wraps them."""
    items = [item for item in make_items(HELD, seed) if b"ledger.canary" not in item]
    key = unacked_key("ledger")
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client()) as worker:
        for number, item in enumerate(items):
            text = item.decode("utf-8", "replace")
            stored = json.dumps([text, "", QUEUE]) if number % 2 else item
            worker.redis.hset(key, str(number), stored)
        worker.redis.zadd(f"{key}:index", dict.fromkeys(map(str, range(len(items))), 1))
        wait_until(lambda: not worker.redis.exists(key), timeout_s=60, what="the sweep", interval_s=0.1)
        assert worker.letter_count() == len(items)
        worker.run_canary()


def _is_done(worker: WorkerOnTrial) -> bool:
    assert worker.process.is_running(), "the worker has ended"
    return not worker.redis.exists(QUEUE, unacked_key("ledger"))
