"""Caps from the settings of a real worker to the error in an app, and room again once the worker works."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from nightcrew import Nightcrew, QueueFullError, wire
from nightcrew.messages import RunCanary
from tests.integration.workers.wire.crew import running_worker
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis import RedisServer


def test_a_worker_that_stands_still_fills_its_queue(redis_server: RedisServer, tmp_path: Path) -> None:
    """As it starts it tells apps the caps; what it cannot take is refused; what it takes makes room."""
    redis = redis_server.client(decode_responses=True)
    env = {"NIGHTCREW_LEDGER__QUEUE_CAPS": json.dumps({RunCanary.kind: 8}), "NIGHTCREW_LEDGER__QUEUE_CAP": "50"}
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis, env=env) as worker:
        told = {"*": "50", RunCanary.kind: "8"}
        wait_until(lambda: redis.hgetall(wire.QUEUE_CAPS) == told, timeout_s=10, what="the caps")
        worker.process.send(signal.SIGSTOP)
        with Nightcrew(redis_server.url) as app:
            jobs = app.enqueue_many([RunCanary()] * 8)
            with pytest.raises(QueueFullError, match="8 jobs wait and at most 8 may"):
                app.enqueue(RunCanary())
            worker.process.send(signal.SIGCONT)
            assert [job.result(timeout_s=30) for job in jobs] == [{"note": ""}] * 8
            app.enqueue(RunCanary()).result(timeout_s=30)
        assert redis.zcard(wire.queued_jobs(RunCanary.kind)) == 0
