"""What a worker does with messages, with garbage, and with what it is told from outside."""

from __future__ import annotations

import json
import signal
import sqlite3
from typing import TYPE_CHECKING

import psutil
import pytest

from nightcrew import Nightcrew, wire
from nightcrew.messages import RunCanary
from tests.integration.workers.wire.crew import QUEUE, json_lines, process_environment, running_worker
from tests.support import wait_until
from tests.support.processes import spawned
from tests.support.redis import running_redis
from tests.unit.workers.celery.envelopes import envelope, item
from workers.celery_config import unacked_key, worker_command
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.workers.wire.crew import WorkerOnTrial
    from tests.support.redis import RedisServer

PASSWORD = "canary/in%the:mine"
QUOTED = "canary%2Fin%25the%3Amine"


@pytest.fixture
def worker(redis_server: RedisServer, tmp_path: Path) -> Iterator[WorkerOnTrial]:
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client()) as running:
        yield running


def test_a_job_of_an_app_is_done(worker: WorkerOnTrial, redis_server: RedisServer) -> None:
    """From `enqueue` to the result, through a real worker."""
    with Nightcrew(redis_server.url) as crew:
        assert crew.enqueue(RunCanary(note="hello")).result(timeout_s=20) == {"note": "hello"}
    wait_until(lambda: not worker.redis.exists(unacked_key("ledger")), timeout_s=5, what="the acknowledgement")


def test_an_unknown_task_is_kept(worker: WorkerOnTrial) -> None:
    """An app may be newer than the crew."""
    worker.put(item(task="predictions.run", headers={"id": "j-1"}))
    wait_until(worker.letters, timeout_s=10, what="a dead letter")
    [letter] = worker.letters()
    assert (letter["source"], letter["kind"], letter["job_id"]) == (QUEUE, "predictions.run", "j-1")
    assert json.loads(letter["body"])["headers"]["task"] == "predictions.run"
    wait_until(lambda: not worker.redis.exists(unacked_key("ledger")), timeout_s=10, what="its acknowledgement")
    worker.run_canary()


def test_an_unreadable_payload_is_kept(worker: WorkerOnTrial) -> None:
    """The job itself refuses what has the form of a message and not its sense."""
    worker.put(item(payload={"note": 5}), item(headers={"nightcrew_schema": 99}), item(headers={"id": "no-uuid"}))
    wait_until(lambda: worker.letter_count() == 3, timeout_s=10, what="three dead letters")
    worker.run_canary()


def test_garbage_among_the_unacknowledged_is_kept(worker: WorkerOnTrial) -> None:
    """The sweep for abandoned messages makes dead letters of what it cannot put back."""
    lost = item(payload={"note": "abandoned"})
    key = unacked_key("ledger")
    stored = {
        "garbage": b"\xff garbage",
        "object": b"{}",
        "nowhere": json.dumps([envelope(), "", "nowhere"]).encode(),
        "lost": json.dumps([json.loads(lost), "", QUEUE]).encode(),
    }
    for tag, value in stored.items():
        worker.redis.hset(key, tag, value)
    worker.redis.zadd(f"{key}:index", dict.fromkeys([*stored, "without entry"], 1))
    wait_until(lambda: not worker.redis.exists(key, f"{key}:index"), timeout_s=20, what="the sweep")
    assert {letter["source"] for letter in worker.letters()} == {key}
    assert worker.letter_count() == 3
    mirror = wire.job_mirror(json.loads(lost)["headers"]["id"])
    wait_until(lambda: worker.redis.hget(mirror, "state") == b"succeeded", timeout_s=10, what="the abandoned job")
    worker.run_canary()


def test_two_messages_under_one_tag_are_two(worker: WorkerOnTrial) -> None:
    """Tags come over the wire; an acknowledgement must not take a stranger's message with it."""
    twins = [item(properties={"delivery_tag": "same"}) for _ in range(20)]
    worker.put(*twins)
    keys = [wire.job_mirror(json.loads(twin)["headers"]["id"]) for twin in twins]
    wait_until(
        lambda: all(worker.redis.hget(key, "state") == b"succeeded" for key in keys), timeout_s=20, what="all twins"
    )


def test_broadcasts_cannot_end_it(worker: WorkerOnTrial) -> None:
    """Remote control is open to whoever reaches Redis, and garbage on it does no harm."""
    body = envelope()["body"]
    control = {"properties": {"delivery_info": {}, "delivery_tag": "t", "body_encoding": "base64"}, "body": body}
    noise: list[object] = [None, 5, [], {}, "x", control, {**control, "headers": []}, {**control, "body": "%%%"}]
    noise += [{**control, "content-type": kind, "content-encoding": "utf-8"} for kind in ("application/json", "x/y")]
    raw = [b"", b"\xff", b"{", b"[" * 50_000, b'{"__type__": "decimal", "__value__": "x"}']
    raw += [json.dumps(one).encode() for one in noise]
    for message in raw:
        _broadcast(worker, message)
    worker.run_canary()
    assert worker.letter_count() == 0


def _broadcast(worker: WorkerOnTrial, message: bytes) -> None:
    """Say something until it is heard: the worker listens soon after it is ready, and anew after some garbage."""
    wait_until(
        lambda: worker.redis.publish("/0.celery.pidbox", message) == 1, timeout_s=10, what="a worker that listens"
    )


def test_a_queue_of_a_wrong_type_is_waited_out(worker: WorkerOnTrial) -> None:
    """When the key is put right the worker goes on."""
    worker.redis.set(QUEUE, "not a list")
    wait_until(lambda: "WRONGTYPE" in worker.process.output(), timeout_s=10, what="the complaint")
    worker.redis.delete(QUEUE)
    worker.run_canary(timeout_s=30)


def test_a_dead_letter_that_is_not_taken_stays_in_its_queue(worker: WorkerOnTrial) -> None:
    """What cannot be kept is not thrown away."""
    worker.redis.set(wire.DEAD_LETTERS, "not a stream")
    worker.put(b"garbage")
    wait_until(lambda: "WRONGTYPE" in worker.process.output(), timeout_s=10, what="the complaint")
    worker.redis.delete(wire.DEAD_LETTERS)
    wait_until(worker.letter_count, timeout_s=30, what="the dead letter")
    assert worker.letter_count() == 1
    worker.run_canary()


def test_it_ends_when_asked(worker: WorkerOnTrial) -> None:
    """TERM is answered with an orderly end, and every line of its life is one JSON object with all fields."""
    worker.run_canary()
    worker.process.send(signal.SIGTERM)
    assert worker.process.wait(timeout_s=15) == 0
    lines = json_lines(worker.process.output())
    always = {"timestamp", "level", "event", "logger", "service", "version", "host", "pid"}
    assert [line for line in lines if not always <= set(line)] == []
    [ended] = [line for line in lines if line["event"] == "job.ended"]
    assert {"task", "task_id", "queue", "correlation_id", "attempt"} <= set(ended)
    assert (ended["queue"], ended["task"], ended["attempt"]) == (QUEUE, RunCanary.kind, 1)


@pytest.mark.parametrize("before", [[], [signal.SIGTERM]])
def test_it_gives_back_what_it_cannot_finish(
    redis_server: RedisServer, tmp_path: Path, before: list[signal.Signals]
) -> None:
    """QUIT, also after a TERM that waits in vain: the job at hand stands in its queue again, and the process ends."""
    redis = redis_server.client()
    raw = item(payload={"note": "held"})
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis) as worker:
        lock = sqlite3.connect(tmp_path / "nightcrew.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")  # no job can end now
        process = psutil.Process(worker.process.pid)
        idle = process.num_threads()
        worker.put(raw)
        # In Redis the message is at hand before it is with the pool, which starts a thread for it.
        wait_until(lambda: process.num_threads() > idle, timeout_s=10, what="a job at hand")
        assert redis.hlen(unacked_key("ledger")) == 1
        for number in before:
            worker.process.send(number)
            wait_until(lambda: "Warm shutdown" in worker.process.output(), timeout_s=10, what="an orderly end")
        worker.process.send(signal.SIGQUIT)
        assert worker.process.wait(timeout_s=5) == 1
        lock.close()
    [stored] = redis.lrange(QUEUE, 0, -1)
    assert json.loads(stored)["headers"]["id"] == json.loads(raw)["headers"]["id"]
    assert not redis.exists(unacked_key("ledger"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_an_end_in_the_middle_loses_nothing(redis_server: RedisServer, tmp_path: Path, number: signal.Signals) -> None:
    """Each job is done, or stands in its queue; none is taken for garbage because the pool was closed."""
    items = [item() for _ in range(200)]
    mirrors = [wire.job_mirror(json.loads(one)["headers"]["id"]) for one in items]
    redis = redis_server.client()
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis) as worker:
        worker.put(*items)
        wait_until(lambda: redis.llen(QUEUE) < 190, timeout_s=10, what="some progress", interval_s=0.001)
        worker.process.send(number)
        worker.process.wait(timeout_s=15)
        assert worker.letter_count() == 0
    waiting = {json.loads(one)["headers"]["id"] for one in redis.lrange(QUEUE, 0, -1)}
    done = {key for key in mirrors if redis.hget(key, "state") == b"succeeded"}
    assert {wire.job_mirror(job_id) for job_id in waiting} | done == set(mirrors)
    assert not redis.exists(unacked_key("ledger"))


def test_processes_do_the_same_as_threads(redis_server: RedisServer, tmp_path: Path) -> None:
    """With more than one process the jobs run in children, each with a runtime of its own."""
    (tmp_path / "nightcrew.toml").write_text("[ledger]\nworker_processes = 2\n", encoding="utf-8")
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client()) as worker:
        worker.put(b"garbage", item(payload={"note": 5}))
        for _ in range(10):
            worker.run_canary()
        assert worker.letter_count() == 2
        worker.process.send(signal.SIGTERM)
        assert worker.process.wait(timeout_s=15) == 0


def test_a_usage_worker_drains(redis_server: RedisServer, tmp_path: Path) -> None:
    """From `increment` to the database, through the doorbell."""
    with (
        running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client(), kind="usage"),
        Nightcrew(redis_server.url) as crew,
    ):
        crew.usage.increment("mail.greeting", amount=3)
        crew.usage.flush(5)
        database = sqlite3.connect(tmp_path / "nightcrew.db")
        query = "SELECT total FROM usage_counts"
        wait_until(
            lambda: database.execute(query).fetchall() == [(3,)], timeout_s=20, what="the count", interval_s=0.05
        )
        database.close()


def test_it_survives_its_redis(own_redis_server: RedisServer, tmp_path: Path) -> None:
    """After a crash of Redis the worker is back by itself."""
    with running_worker(tmp_path, broker_url=own_redis_server.url, redis=own_redis_server.client()) as worker:
        own_redis_server.kill9()
        own_redis_server.restart()
        worker.run_canary(timeout_s=40)


def test_no_output_has_the_password(tmp_path: Path) -> None:
    """Not when all is well, not in complaints about a Redis that is away, and not in errors of settings."""
    with running_redis(tcp=True, options={"requirepass": PASSWORD}) as server:
        url = f"redis://:{QUOTED}@127.0.0.1:{server.port}/0"
        redis = server.client(password=PASSWORD)
        with running_worker(tmp_path, broker_url=url, redis=redis, env={"NIGHTCREW_LOG__LEVEL": "debug"}) as worker:
            worker.put(b"garbage", item(payload={"url": url}, task="unheard.of"))
            worker.run_canary()
            server.kill9()
            wait_until(lambda: "Cannot connect" in worker.process.output(), timeout_s=20, what="the complaint")
            output = worker.process.output()
    assert PASSWORD not in output
    assert QUOTED not in output


def test_without_a_broker_it_says_so_in_one_line(tmp_path: Path) -> None:
    """Settings that are missing are no reason for a traceback."""
    command = worker_command("ledger", load_settings(tmp_path, env={}))
    with spawned(command, env={**process_environment(tmp_path, ""), "NIGHTCREW_WORKER_KIND": "ledger"}) as process:
        assert process.wait(timeout_s=30) == 3
        [line] = process.output().splitlines()
    assert line.startswith("nightcrew: broker.url is not set")
