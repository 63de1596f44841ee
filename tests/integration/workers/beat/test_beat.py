"""A real beat: what it sends, and what it does when Redis is away."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from celery import Celery

from nightcrew import wire
from nightcrew.messages import FireSchedule
from tests.integration.workers.beat.quick_schedulers import SECOND_IN, TwiceScheduler
from tests.integration.workers.wire.crew import process_environment
from tests.support import wait_until
from tests.support.processes import spawned
from workers.beat import HEARTBEAT_TTL_S
from workers.celery_config import beat_command
from workers.envelope import read_item, utc_now
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.support.processes import SpawnedProcess
    from tests.support.redis import RedisServer

_SCHEDULERS = "tests.integration.workers.beat.quick_schedulers"


@contextmanager
def running_beat(data_dir: Path, broker_url: str, scheduler: str | None = None) -> Iterator[SpawnedProcess]:
    command = beat_command(load_settings(data_dir, env={}))
    chosen = () if scheduler is None else (f"--scheduler={_SCHEDULERS}:{scheduler}",)
    with spawned((*command, *chosen), env=process_environment(data_dir, broker_url)) as process:
        yield process


def sent(redis: Redis) -> list[dict[str, Any]]:
    """Give the messages on the queue, the oldest first, each as a worker would read it."""
    items = cast("list[bytes]", redis.lrange(FireSchedule.queue, 0, -1))[::-1]
    return [read_item(item, queue=FireSchedule.queue, now=utc_now()) for item in items]


def test_it_sends_what_is_due(redis_server: RedisServer, tmp_path: Path) -> None:
    """The message says which entry is meant, when it was sent and until when it is worth anything."""
    redis = redis_server.client()
    before = time.time()
    with running_beat(tmp_path, redis_server.url, "EverySecondScheduler"):
        wait_until(lambda: len(sent(redis)) > 1, timeout_s=20, what="two messages")
        ttl_s = redis.ttl(wire.BEAT_HEARTBEAT)
    message, second = sent(redis)[:2]
    headers = message["headers"]
    assert headers["task"] == FireSchedule.kind
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {"entry": "every-second"}]
    assert headers[wire.HEADER_SCHEMA] == 1
    assert before < headers[wire.HEADER_ENQUEUED_AT] < second["headers"][wire.HEADER_ENQUEUED_AT] < time.time()
    assert headers[wire.HEADER_CORRELATION_ID] == headers["id"] != second["headers"]["id"]
    lives_s = datetime.fromisoformat(headers["expires"]).timestamp() - headers[wire.HEADER_ENQUEUED_AT]
    assert 0.8 < lives_s < 1
    assert 0 < ttl_s <= HEARTBEAT_TTL_S


def test_it_shows_that_it_lives_before_anything_is_due(redis_server: RedisServer, tmp_path: Path) -> None:
    """The real timetable, and the heartbeat at the first tick."""
    redis = redis_server.client()
    with running_beat(tmp_path, redis_server.url) as beat:
        wait_until(lambda: redis.get(wire.BEAT_HEARTBEAT), timeout_s=20, what="the heartbeat")
        assert beat.is_running()


def test_a_slot_that_begins_while_redis_is_away_is_sent(own_redis_server: RedisServer, tmp_path: Path) -> None:
    """Beat waits with the message in its hand; its connection was open before."""
    redis = own_redis_server.client()
    with running_beat(tmp_path, own_redis_server.url, "TwiceScheduler") as beat:
        wait_until(lambda: len(sent(redis)) == 1, timeout_s=20, what="the first message", interval_s=0.005)
        own_redis_server.kill9()
        away_since = time.monotonic()
        away_s = SECOND_IN.total_seconds() + 2
        wait_until(lambda: time.monotonic() - away_since > away_s, timeout_s=away_s + 5, what="the slot to pass")
        assert beat.is_running()
        own_redis_server.restart()
        wait_until(lambda: len(sent(redis)) == 2, timeout_s=30, what="the second message")
        wait_until(lambda: redis.ttl(wire.BEAT_HEARTBEAT) == HEARTBEAT_TTL_S, timeout_s=20, what="the heartbeat")
    late = sent(redis)[1]["headers"]
    assert time.time() - late[wire.HEADER_ENQUEUED_AT] < 60


def test_a_beat_that_is_killed_does_not_send_a_slot_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """It writes down what it has sent before it goes on, and the next beat reads it."""
    redis = redis_server.client()
    path = tmp_path / "beat-schedule.json"
    with running_beat(tmp_path, redis_server.url, "TwiceScheduler") as beat:
        wait_until(lambda: len(sent(redis)) == 1, timeout_s=20, what="the first message", interval_s=0.005)
        sent_at = sent(redis)[0]["headers"][wire.HEADER_ENQUEUED_AT]
        wait_until(lambda: _noted_at(path) > sent_at - 0.5, timeout_s=2, what="the note of it", interval_s=0.005)
        beat.kill()
    app = Celery("beat-test", broker=redis_server.url, set_as_current=False)
    entry = TwiceScheduler(app, schedule_filename=str(path)).schedule["twice"]
    assert entry.last_run_at is not None
    assert entry.last_run_at.timestamp() == _noted_at(path)


def _noted_at(path: Path) -> float:
    noted = json.loads(path.read_text(encoding="utf-8"))["last_sent_at"]["twice"]
    return datetime.fromisoformat(noted).timestamp()
