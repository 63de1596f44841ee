"""Signatures at work: beat signs, and what was signed once is believed however often it comes."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any, cast

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew.messages import FireSchedule, RunCanary
from nightcrew.signing import SigningKey
from tasks.ledger.tables import JobRun, RunEvent
from tasks.transactions import begin_read
from tests.integration.workers.beat.test_beat import running_beat
from tests.integration.workers.wire.crew import QUEUE, running_worker
from tests.support import wait_until
from tests.support.databases import opened_engine
from workers.celery_config import unacked_key

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from tests.integration.workers.wire.crew import WorkerOnTrial
    from tests.support.redis import RedisServer

KEY = SigningKey.generate("ours").reveal()
KEYS = {"NIGHTCREW_WIRE__SIGNING_KEYS": json.dumps([KEY]), "NIGHTCREW_DATABASE__BUSY_TIMEOUT_S": "0.5"}


def count(data_dir: Path, query: sa.Select[int]) -> int:
    with opened_engine(f"sqlite:///{data_dir / 'nightcrew.db'}") as engine, begin_read(engine) as connection:
        return connection.execute(query).scalar_one()


def slots_of_beat(data_dir: Path) -> int:
    return count(data_dir, sa.select(sa.func.count(JobRun.id)).where(JobRun.entry == "ledger-reconcile"))


def started(data_dir: Path, run_id: str) -> int:
    events = sa.select(sa.func.count()).select_from(RunEvent)
    return count(data_dir, events.where(RunEvent.run_id == run_id, RunEvent.event == "started"))


def test_beat_signs_what_it_sends(redis_server: RedisServer, tmp_path: Path) -> None:
    """A beat without a key fires nothing; the crew's own does. The worker takes signed messages alone."""
    url, scheduler = redis_server.url, "ReconcileScheduler"
    for name in ("stranger", "own"):
        (tmp_path / name).mkdir()
    with running_worker(tmp_path, broker_url=url, redis=redis_server.client(), env=KEYS) as worker:
        with running_beat(tmp_path / "stranger", url, scheduler):
            wait_until(worker.letter_count, timeout_s=20, what="a dead letter")
        wait_until(lambda: not worker.redis.llen(FireSchedule.queue), timeout_s=10, what="the end of the queue")
        letter = worker.letters()[-1]
        assert (letter["kind"], letter["reason"]) == (FireSchedule.kind, "signature is missing")
        assert slots_of_beat(tmp_path) == 0
        refused = refusals(worker)
        with running_beat(tmp_path / "own", url, scheduler, env=KEYS):
            wait_until(lambda: slots_of_beat(tmp_path), timeout_s=20, what="the run of a slot", interval_s=0.1)
        assert refusals(worker) == refused


@pytest.mark.long
def test_a_signature_survives_retry_and_redelivery(redis_server: RedisServer, tmp_path: Path) -> None:
    """Celery sends a message again while the database is locked, and the next worker what a killed one held."""
    redis = redis_server.client()
    with Nightcrew(redis_server.url, signing_key=KEY) as app:
        with running_worker(tmp_path, broker_url=redis_server.url, redis=redis, env=KEYS) as worker:
            lock = sqlite3.connect(tmp_path / "nightcrew.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            job = app.enqueue(RunCanary(note="signed"))
            wait_until(lambda: [one["retries"] for one in held(redis)] == [1], timeout_s=20, what="Celery's retry")
            [headers] = held(redis)
            worker.process.kill()
            lock.close()
        assert headers["id"] == job.id
        assert headers[wire.HEADER_SIGNATURE].startswith("v1:ours:")
        make_overdue(redis)
        with running_worker(tmp_path, broker_url=redis_server.url, redis=redis, env=KEYS) as worker:
            assert job.result(timeout_s=40) == {"note": "signed"}
            assert worker.letter_count() == 0


def test_a_signed_message_that_comes_again_does_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    """Whoever has read it may send it as often as he likes: the job is done once."""
    redis = redis_server.client()
    with Nightcrew(redis_server.url, signing_key=KEY) as app:
        job = app.enqueue(RunCanary(note="once"))
        [message] = cast("list[bytes]", redis.lrange(QUEUE, 0, -1))
        with running_worker(tmp_path, broker_url=redis_server.url, redis=redis, env=KEYS) as worker:
            worker.put(message, message)
            assert job.result(timeout_s=20) == {"note": "once"}
            worker.put(message, message)
            assert app.enqueue(RunCanary(note="after")).result(timeout_s=20) == {"note": "after"}
            wait_until(lambda: worker.process.output().count("job.skipped") >= 4, timeout_s=10, what="four skipped")
            assert worker.letter_count() == 0
    assert started(tmp_path, job.id) == 1


def refusals(worker: WorkerOnTrial) -> int:
    return worker.process.output().count("job.dead_lettered")


def held(redis: Redis) -> list[dict[str, Any]]:
    """Give the headers of the messages that a worker has not acknowledged."""
    stored = cast("list[bytes]", redis.hvals(unacked_key("ledger")))
    return [json.loads(one)[0]["headers"] for one in stored]


def make_overdue(redis: Redis) -> None:
    """Let the visibility timeout of the messages that a dead worker holds be over."""
    key = f"{unacked_key('ledger')}:index"
    tags = cast("list[bytes]", redis.zrange(key, 0, -1))
    redis.zadd(key, dict.fromkeys(tags, 1))
