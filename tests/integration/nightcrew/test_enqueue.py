"""Handing jobs over to a real Redis, and to one that is not there."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from nightcrew import Nightcrew, wire
from nightcrew.errors import EnqueueError, InvalidMessageError, JobError, JobFailedError, JobTimeoutError
from nightcrew.messages import RunCanary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis import RedisServer

_QUEUE = "nightcrew.ledger"


@pytest.fixture
def crew(redis_server: RedisServer) -> Iterator[Nightcrew]:
    with Nightcrew(redis_server.url) as crew:
        yield crew


def _messages(server: RedisServer) -> list[dict[str, Any]]:
    queued: Any = server.client().lrange(_QUEUE, 0, -1)
    return [json.loads(message) for message in reversed(queued)]


def _intents(server: RedisServer) -> list[dict[bytes, bytes]]:
    entries: Any = server.client().xrange(wire.INTENTS)
    return [fields for _, fields in entries]


def test_intent_and_message_say_the_same(crew: Nightcrew, redis_server: RedisServer) -> None:
    """Durable first, then the Celery message, with our headers and no text of the payload in its repr."""
    job = crew.enqueue(RunCanary(note="canary secret"), dedup_key="once", correlation_id="request-7")
    (intent,) = _intents(redis_server)
    (message,) = _messages(redis_server)
    assert intent.keys() == {b"v", b"id", b"kind", b"payload", b"dedup_key", b"correlation_id", b"enqueued_at"}
    assert (intent[b"id"].decode(), intent[b"kind"], intent[b"dedup_key"]) == (job.id, b"ledger.canary", b"once")
    assert json.loads(intent[b"payload"]) == {"note": "canary secret"}
    assert abs(float(intent[b"enqueued_at"]) - datetime.now(UTC).timestamp()) < 60
    headers = message["headers"]
    assert (headers["task"], headers["id"], headers["argsrepr"]) == ("ledger.canary", job.id, "()")
    assert headers[wire.HEADER_SCHEMA] == 1
    assert headers[wire.HEADER_CORRELATION_ID] == "request-7"
    assert headers[wire.HEADER_DEDUP_KEY] == "once"
    assert headers[wire.HEADER_ENQUEUED_AT] == float(intent[b"enqueued_at"])
    assert "secret" not in headers["kwargsrepr"]
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {"note": "canary secret"}]


def test_many_are_handed_over_in_order(crew: Nightcrew, redis_server: RedisServer) -> None:
    """All in one transaction, their messages in batches."""
    jobs = crew.enqueue_many([RunCanary(note=str(number)) for number in range(1_200)])
    assert [intent[b"id"].decode() for intent in _intents(redis_server)] == [job.id for job in jobs]
    assert [message["headers"]["id"] for message in _messages(redis_server)] == [job.id for job in jobs]
    assert crew.enqueue_many([]) == []


def test_nothing_is_sent_of_what_is_refused(crew: Nightcrew, redis_server: RedisServer) -> None:
    """One message that is too large refuses all of them, before anything is stored."""
    too_large = RunCanary()
    object.__setattr__(too_large, "note", "x" * 2_000_000)
    with pytest.raises(InvalidMessageError, match="bytes"):
        crew.enqueue_many([RunCanary(), too_large])
    with pytest.raises(InvalidMessageError, match="UUID"):
        crew.enqueue(RunCanary(), job_id="7")
    assert _intents(redis_server) == []


def test_the_app_keeps_its_own_celery(redis_server: RedisServer) -> None:
    """Its current app, its broker variable and its shared tasks are not touched."""
    code = (
        "import celery; from nightcrew import Nightcrew; from nightcrew.messages import RunCanary\n"
        "app = celery.Celery('theirs')\n"
        f"with Nightcrew({redis_server.url!r}) as crew: crew.enqueue(RunCanary())\n"
        "assert celery.current_app.main == 'theirs', celery.current_app\n"
    )
    env = {**os.environ, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=env)
    assert len(_messages(redis_server)) == 1


def test_without_a_server_it_is_a_clear_no(own_redis_server: RedisServer) -> None:
    """At once, before and after a connection was made; `enqueue` works again as soon as Redis does."""
    with Nightcrew(own_redis_server.url, timeout_s=2) as crew:
        for connect_first in (False, True):
            if connect_first:
                crew.enqueue(RunCanary())
            own_redis_server.kill9()
            started = time.monotonic()
            with pytest.raises(EnqueueError, match="will not run") as caught:
                crew.enqueue(RunCanary())
            assert time.monotonic() - started < 2
            assert caught.value.accepted == "no"
            assert uuid.UUID(caught.value.job_id).version == 7
            own_redis_server.start()
        again = crew.enqueue(RunCanary(), job_id=caught.value.job_id)
        assert again.id == caught.value.job_id
        assert len(_messages(own_redis_server)) == 2


@pytest.mark.parametrize("connected", [False, True])
def test_a_hung_server_keeps_nobody_longer_than_the_timeout(own_redis_server: RedisServer, *, connected: bool) -> None:
    """It is asked before the intent is sent, so the answer is a clear no."""
    crew = Nightcrew(own_redis_server.url, timeout_s=1)
    if connected:
        crew.enqueue(RunCanary())
    own_redis_server.sigstop()
    started = time.monotonic()
    with pytest.raises(EnqueueError) as caught:
        crew.enqueue(RunCanary())
    assert time.monotonic() - started < 1.9, "longer than one timeout"
    assert caught.value.accepted == "no"
    own_redis_server.sigcont()
    crew.close()
    assert len(_intents(own_redis_server)) == int(connected)


def test_a_server_that_hangs_on_the_intent_may_have_taken_it(own_redis_server: RedisServer) -> None:
    """Frozen between the question and the intent: unknown, and the same id again makes no second job."""
    crew = Nightcrew(own_redis_server.url, timeout_s=1)
    crew.enqueue(RunCanary())
    intake = crew._intake()
    redis = intake._redis

    class FreezesAfterPing(Redis):
        def ping(self, **options: Any) -> bool:
            answer = super().ping(**options)
            own_redis_server.sigstop()
            return answer

    intake._redis = FreezesAfterPing(connection_pool=redis.connection_pool)
    with pytest.raises(EnqueueError, match="may run") as caught:
        crew.enqueue(RunCanary())
    assert caught.value.accepted == "unknown"
    own_redis_server.sigcont()
    intake._redis = redis
    crew.enqueue(RunCanary(), job_id=caught.value.job_id)
    ids = [intent[b"id"].decode() for intent in _intents(own_redis_server)]
    assert set(ids[1:]) == {caught.value.job_id}
    crew.close()


def test_a_refusing_server_is_a_no(own_redis_server: RedisServer) -> None:
    """Out of memory, Redis answers, and the answer is no."""
    own_redis_server.client().config_set("maxmemory", "1")
    with Nightcrew(own_redis_server.url) as crew, pytest.raises(EnqueueError, match="maxmemory") as caught:
        crew.enqueue(RunCanary())
    assert caught.value.accepted == "no"


def test_a_stored_intent_is_enough(redis_server: RedisServer, crew: Nightcrew) -> None:
    """When only publishing fails, the job will run all the same, and the handle is given."""
    redis_server.client().set(_QUEUE, "not a list")
    job = crew.enqueue(RunCanary())
    assert [intent[b"id"].decode() for intent in _intents(redis_server)] == [job.id]


def test_threads_share_a_client(crew: Nightcrew, redis_server: RedisServer) -> None:
    """Every job arrives once."""
    threads = [
        threading.Thread(target=lambda: [crew.enqueue(RunCanary()) for _ in range(25)], name=str(n)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {message["headers"]["id"] for message in _messages(redis_server)}
    assert len(ids) == len(_messages(redis_server)) == len(_intents(redis_server)) == 100


def test_a_forked_child_uses_connections_of_its_own(crew: Nightcrew, redis_server: RedisServer) -> None:
    """Parent and child enqueue side by side and neither reads the other's replies."""
    crew.enqueue(RunCanary())
    if (child := os.fork()) == 0:
        for _ in range(20):
            crew.enqueue(RunCanary())
        crew.usage.increment("child")
        crew.close()
        os._exit(0)
    for _ in range(20):
        crew.enqueue(RunCanary())
    assert os.waitpid(child, 0)[1] == 0
    assert len(_intents(redis_server)) == len(_messages(redis_server)) == 41
    assert redis_server.client().xlen(wire.usage_stream(0)) == 1


def test_a_handle_reads_the_mirror(crew: Nightcrew, redis_server: RedisServer) -> None:
    """State, progress and result as the crew writes them; unknown where there is no mirror."""
    job = crew.enqueue(RunCanary())
    mirror = redis_server.client()
    name = wire.job_mirror(job.id)
    assert (job.state(), job.kind, crew.job(job.id).kind) == ("unknown", "ledger.canary", "unknown")
    with pytest.raises(JobTimeoutError, match="unknown"):
        job.result(timeout_s=0.05)
    mirror.hset(name, mapping={"state": "running", "kind": "x", "progress": "0.25", "progress_text": "a quarter"})
    assert (job.state(), crew.job(job.id).kind) == ("running", "x")
    assert (job.progress().fraction, job.progress().text) == (0.25, "a quarter")
    mirror.hset(name, mapping={"state": "succeeded", "result": '{"rows": 3}'})
    assert job.result(timeout_s=1) == {"rows": 3}
    mirror.hset(name, mapping={"state": "failed", "error": "disk full"})
    with pytest.raises(JobFailedError, match="disk full"):
        job.result(timeout_s=1)


def test_a_state_that_cannot_be_asked_is_an_error(own_redis_server: RedisServer) -> None:
    """Redis away is not the same as unknown."""
    with Nightcrew(own_redis_server.url, timeout_s=1) as crew:
        job = crew.job(str(uuid.uuid4()))
        own_redis_server.kill9()
        with pytest.raises(JobError, match="cannot be read"):
            job.state()
