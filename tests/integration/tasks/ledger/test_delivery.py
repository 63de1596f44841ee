"""The Celery edge in a real worker process: acknowledged, retried and rejected as the ledger decided."""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Celery

from nightcrew import wire
from nightcrew._redis import kombu_url
from tasks.ledger.dead_letters import from_fields
from tasks.ledger.states import State
from tasks.ledger.store import queries
from tests.support import wait_until
from tests.support.processes import spawned

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasks.ledger.runs import Run
    from tests.support.redis import RedisServer

WORKER = ("-m", "celery", "-A", "tests.integration.tasks.ledger.worker_app", "worker", "-P", "solo", "-l", "INFO")


def send(app: Celery, kind: str, *, schema: int = 1, **payload: Any) -> str:
    job_id = str(uuid.uuid4())
    headers = {
        wire.HEADER_SCHEMA: schema,
        wire.HEADER_ENQUEUED_AT: datetime.now(UTC).timestamp(),
        wire.HEADER_CORRELATION_ID: f"correlation of {kind}",
    }
    app.send_task(kind, kwargs=payload, task_id=job_id, headers=headers, queue="nightcrew.ledger", ignore_result=True)
    return job_id


def test_worker_does_what_the_ledger_decides(redis_server: RedisServer, sqlite_engine: Engine, sqlite_url: str) -> None:
    """A retry keeps id and headers, a failure and an unreadable message are acknowledged, and nothing stays behind."""
    environment = {"TEST_BROKER_URL": redis_server.url, "TEST_DATABASE_URL": sqlite_url}
    redis = redis_server.client()
    with Celery("sender", broker=kombu_url(redis_server.url), set_as_current=False) as app:
        kinds = ("test.stumble", "test.refuse", "ledger.canary")
        stumble, refuse, canary = (send(app, kind) for kind in kinds)
        unreadable = send(app, "ledger.canary", schema=99)

        def ended(job_id: str) -> Run | None:
            run = queries.by_id(sqlite_engine, job_id)
            return run if run is not None and run.has_ended else None

        with spawned([sys.executable, *WORKER, "--without-gossip", "--without-mingle"], env=environment):
            runs = [
                wait_until(partial(ended, job_id), timeout_s=30, what="its outcome")
                for job_id in (stumble, refuse, canary)
            ]
            wait_until(
                lambda: not redis.llen("nightcrew.ledger") and not redis.hlen("unacked.ledger"),
                timeout_s=20,
                what="all messages to be acknowledged",
            )
    assert [run.state for run in runs] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert (runs[0].attempt, runs[0].correlation_id, runs[0].result) == (2, "correlation of test.stumble", "done")
    answer: Any = redis.xrange(wire.DEAD_LETTERS)
    [letter] = [from_fields(fields, taken_in_at=datetime.now(UTC)) for _, fields in answer]
    assert (letter.job_id, letter.source) == (unreadable, "nightcrew.ledger")
