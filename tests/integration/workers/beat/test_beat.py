"""A real beat: what it sends, and what it does when Redis is away."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from celery import Celery

from nightcrew import wire
from nightcrew.messages import FireSchedule
from tasks.ledger.firing import fire_slot
from tasks.ledger.store import slots
from tasks.runtime import Runtime
from tests.integration.workers.beat.quick_schedulers import SECOND_IN, EverySecond, TwiceScheduler
from tests.integration.workers.wire.crew import process_environment
from tests.support import wait_until
from tests.support.processes import spawned
from workers.beat import HEARTBEAT_TTL_S
from workers.celery_config import beat_command
from workers.envelope import read_item, utc_now
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.messages import Message
    from tasks.runtime import Posting
    from tests.support.processes import SpawnedProcess
    from tests.support.redis import RedisServer

_SCHEDULERS = "tests.integration.workers.beat.quick_schedulers"


@contextmanager
def running_beat(
    data_dir: Path, broker_url: str, scheduler: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[SpawnedProcess]:
    command = beat_command(load_settings(data_dir, env={}))
    chosen = () if scheduler is None else (f"--scheduler={_SCHEDULERS}:{scheduler}",)
    with spawned((*command, *chosen), env={**process_environment(data_dir, broker_url), **(env or {})}) as process:
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
    assert 0 < lives_s < 1
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


def test_a_beat_that_starts_while_redis_is_away_waits_for_it(own_redis_server: RedisServer, tmp_path: Path) -> None:
    """It does not give up, and sends what began meanwhile as soon as it can."""
    redis = own_redis_server.client()
    own_redis_server.kill9()
    with running_beat(tmp_path, own_redis_server.url, "TwiceScheduler") as beat:
        wait_until(lambda: "heartbeat_failed" in beat.output(), timeout_s=30, what="beat to notice")
        own_redis_server.restart()
        wait_until(lambda: sent(redis), timeout_s=30, what="the message")
        assert beat.is_running()


def test_two_beats_make_one_run_of_each_slot(redis_server: RedisServer, sqlite_engine: Engine, tmp_path: Path) -> None:
    """Both send every slot, one of them dies on the way; the ledger makes one run of each."""
    redis, url, scheduler = redis_server.client(), redis_server.url, "EverySecondScheduler"
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        directory.mkdir()
    with running_beat(here, url, scheduler) as first, running_beat(there, url, scheduler):
        wait_until(lambda: _doubled(sent(redis)) > 2, timeout_s=40, what="slots that both have sent")
        first.kill()
        count = len(sent(redis))
        wait_until(lambda: len(sent(redis)) > count + 1, timeout_s=20, what="slots that one has sent")
    messages = sent(redis)
    entry, publisher = EverySecond(), RecordingPublisher()
    for message in messages:
        now = _sent_at(message)
        runtime = Runtime(
            engine=sqlite_engine,
            redis=redis,
            publisher=publisher,
            timetable={entry.name: entry},
            worker_name="ledger@test",
            clock=lambda now=now: now,  # type: ignore[misc]
        )
        fire_slot(entry, runtime)
    begun = {entry.slot_at(_sent_at(message)) for message in messages}
    runs = slots.history(sqlite_engine, entry.name, limit=1_000)
    made = [run.slot_at for run in runs]
    assert len(messages) > len(begun)
    assert sorted(filter(None, made)) == list(entry.slots_between(min(begun) - timedelta(seconds=1), max(begun)))
    assert sorted(publisher.job_ids) == sorted(run.id for run in runs)


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


@dataclass
class RecordingPublisher:
    """A working publisher whose messages go nowhere."""

    job_ids: list[str] = field(default_factory=list)

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        del message, correlation_id, enqueued_at
        self.job_ids.append(job_id)

    def publish_many(self, postings: Sequence[Posting]) -> None:
        self.job_ids += [posting.job_id for posting in postings]


def _sent_at(message: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(message["headers"][wire.HEADER_ENQUEUED_AT], UTC)


def _doubled(messages: list[dict[str, Any]]) -> int:
    """Count the messages of slots that were sent before."""
    return len(messages) - len({_sent_at(message).replace(microsecond=0) for message in messages})


def _noted_at(path: Path) -> float:
    noted = json.loads(path.read_text(encoding="utf-8"))["last_sent_at"]["twice"]
    return datetime.fromisoformat(noted).timestamp()
