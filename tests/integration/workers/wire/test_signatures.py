"""A crew with signing keys believes those who hold one, and keeps what others write as dead letters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew.messages import DrainUsage, ReconcileLedger, RunCanary
from nightcrew.signing import SigningKey
from tasks.job import Delivery, definition_of, run_job
from tasks.ledger.dead_letters import letter_of_message
from tasks.ledger.jobs import run_canary
from tasks.ledger.operations import NotRetryableError, list_dead_letters, retry_dead_letter
from tasks.ledger.reconciliation import take_in_intents
from tasks.ledger.store.streams import append_dead_letter
from tasks.ledger.tables import DeadLetter, JobRun
from tasks.transactions import begin_read
from tasks.usage.operations import drain_partition, log_reset
from tasks.usage.store import UsageQueries
from tests.integration.workers.wire.crew import QUEUE, running_worker
from tests.support import databases, wait_until
from tests.unit.workers.celery.envelopes import item
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.runtime import Runtime
    from tests.integration.workers.wire.crew import WorkerOnTrial
    from tests.support.redis import RedisServer

OLD, NEW, STRANGE = (SigningKey.generate(name).reveal() for name in ("old", "new", "strange"))
KEYS = {"NIGHTCREW_WIRE__SIGNING_KEYS": json.dumps([NEW, OLD])}


@pytest.fixture
def worker(redis_server: RedisServer, tmp_path: Path) -> Iterator[WorkerOnTrial]:
    with running_worker(tmp_path, broker_url=redis_server.url, redis=redis_server.client(), env=KEYS) as running:
        yield running


@pytest.fixture
def runtime(redis_server: RedisServer, tmp_path: Path) -> Iterator[Runtime]:
    """Give what the jobs of such a crew are handed."""
    databases.migrate_database(f"sqlite:///{tmp_path / 'nightcrew.db'}")
    made = build_runtime(load_settings(tmp_path, env=KEYS), broker_url=redis_server.url, worker_name="test")
    yield made
    close_runtime(made)


def letters_in(runtime: Runtime) -> list[tuple[str, str]]:
    with begin_read(runtime.engine) as connection:
        query = sa.select(DeadLetter.source, DeadLetter.reason).order_by(DeadLetter.id)
        return [(source, reason) for source, reason in connection.execute(query)]


def run_count(runtime: Runtime) -> int:
    with begin_read(runtime.engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(JobRun)).scalar_one()


@pytest.mark.parametrize("key", [OLD, NEW], ids=["old", "new"])
def test_a_signed_job_is_done(worker: WorkerOnTrial, redis_server: RedisServer, key: str) -> None:
    """With any of the keys, so that apps may change theirs one after the other."""
    with Nightcrew(redis_server.url, signing_key=key) as app:
        assert app.enqueue(RunCanary(note="signed")).result(timeout_s=20) == {"note": "signed"}
    assert worker.letter_count() == 0


def test_messages_of_strangers_are_kept_and_not_done(worker: WorkerOnTrial, redis_server: RedisServer) -> None:
    """Unsigned, signed with another key, or changed on the way; the worker does signed jobs after them."""
    forged = {"nightcrew_signature": "v1:new:" + "0" * 64}
    worker.put(item(payload={"note": "unsigned"}), item(headers=forged))
    with Nightcrew(redis_server.url, signing_key=STRANGE) as stranger:
        stranger.enqueue(RunCanary(note="strange"))
    wait_until(lambda: worker.letter_count() == 3, timeout_s=10, what="three dead letters")
    reasons = sorted(letter["reason"] for letter in worker.letters())
    assert [reason[:24] for reason in reasons] == sorted(
        ["signature is missing", "signature by key 'new' i", "signature by an unknown "]
    )
    assert {letter["source"] for letter in worker.letters()} == {QUEUE}
    assert not list(worker.redis.scan_iter(wire.job_mirror("*")))
    with Nightcrew(redis_server.url, signing_key=NEW) as app:
        assert app.enqueue(RunCanary(note="after")).result(timeout_s=20) == {"note": "after"}


def test_a_stranger_cannot_end_a_run_by_its_id(worker: WorkerOnTrial, redis_server: RedisServer) -> None:
    """A forged message under the id of a job leaves that job as it is."""
    with Nightcrew(redis_server.url, signing_key=NEW) as app:
        job = app.enqueue(RunCanary(note="mine"))
        worker.put(item(payload={"note": "forged"}, headers={"id": job.id}))
        assert job.result(timeout_s=20) == {"note": "mine"}
        wait_until(lambda: worker.letter_count() == 1, timeout_s=10, what="a dead letter")
        assert job.state() == "succeeded"


def test_intents_of_strangers_become_dead_letters(runtime: Runtime, redis_server: RedisServer) -> None:
    """Signed ones become runs; a copy of one changes nothing."""
    for key in (None, STRANGE, OLD):
        with Nightcrew(redis_server.url, signing_key=key) as app:
            app.enqueue(RunCanary(note="x"))
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", runtime.redis.xrange(wire.INTENTS))
    genuine = entries[-1][1]
    runtime.redis.xadd(wire.INTENTS, cast("Any", genuine))
    runtime.redis.xadd(wire.INTENTS, cast("Any", {**genuine, b"payload": b'{"note":"y"}'}))
    take_in_intents(runtime)
    assert run_count(runtime) == 1
    reasons = [reason for source, reason in letters_in(runtime) if source == wire.INTENTS]
    assert [reason[:24] for reason in reasons] == [
        "signature is missing",
        "signature by an unknown ",
        "signature by key 'old' i",
    ]


def test_counts_of_strangers_become_dead_letters(runtime: Runtime, redis_server: RedisServer) -> None:
    """Signed ones are counted, resets of the crew are done, and nobody uses up the numbers of another producer."""
    for key in (None, STRANGE, OLD, NEW):
        with Nightcrew(redis_server.url, signing_key=key) as app:
            app.usage.increment("key")
            app.usage.flush()
    assert drain_partition(runtime, 0).rejected == 2
    assert UsageQueries(runtime.engine).sums().total == 2
    assert [reason[:20] for _, reason in letters_in(runtime)] == ["signature is missing", "signature by an unkn"]
    log_reset(runtime, key=None, context=None)
    drain_partition(runtime, 0)
    assert UsageQueries(runtime.engine).sums().total == 0


def test_what_the_crew_publishes_is_signed(runtime: Runtime) -> None:
    """Doorbells, and jobs that are published again."""
    for message in (DrainUsage(partition=0), ReconcileLedger()):
        runtime.publisher.publish(message, job_id="j", correlation_id="c", enqueued_at=runtime.clock())
        raw = cast("bytes", runtime.redis.rpop(message.queue))
        headers = json.loads(raw)["headers"]
        runtime.guard.check_message(kind=message.kind, job_id="j", payload=message.to_payload(), headers=headers)
        assert headers[wire.HEADER_SIGNATURE].startswith("v1:new:")


@pytest.mark.parametrize("source", ["intent", "counts"])
def test_a_dead_letter_without_signature_needs_someone_to_vouch(
    runtime: Runtime, redis_server: RedisServer, source: str
) -> None:
    """Then the crew signs it, and it is taken."""
    with Nightcrew(redis_server.url) as app:
        if source == "intent":
            app.enqueue(RunCanary(note="x"))
        else:
            app.usage.increment("key")
            app.usage.flush()
    take_in_intents(runtime)
    drain_partition(runtime, 0)
    [letter] = list_dead_letters(runtime)
    with pytest.raises(NotRetryableError, match="--vouch"):
        retry_dead_letter(runtime, letter.id)
    retry_dead_letter(runtime, letter.id, vouch=True)
    take_in_intents(runtime)
    drain_partition(runtime, 0)
    assert run_count(runtime) + UsageQueries(runtime.engine).sums().total == 1
    assert len(letters_in(runtime)) == 1


def test_a_message_without_signature_needs_someone_to_vouch(runtime: Runtime) -> None:
    """As what stands in a log does; a changed one as well."""
    definition, queue = definition_of(RunCanary.kind), RunCanary.queue
    assert definition.function is run_canary
    forged = {"nightcrew_signature": "v1:new:" + "0" * 64}
    for number, headers in enumerate(({}, forged)):
        job_id = f"01931f2e-5f6a-7abc-8def-{number:012}"
        delivery = Delivery(id=job_id, payload={"note": "x"}, headers={wire.HEADER_SCHEMA: 1, **headers})
        assert run_job(definition, delivery, runtime).verdict == "dead_lettered"
        [letter] = list_dead_letters(runtime)
        with pytest.raises(NotRetryableError, match="--vouch"):
            retry_dead_letter(runtime, letter.id)
        assert runtime.redis.llen(queue) == 0
        retry_dead_letter(runtime, letter.id, vouch=True)
        ours = json.loads(cast("bytes", runtime.redis.rpop(queue)))["headers"]
        again = Delivery(id=job_id, payload={"note": "x"}, headers=ours)
        assert run_job(definition, again, runtime).verdict == "succeeded"


def test_a_letter_that_was_signed_needs_nobody(runtime: Runtime, redis_server: RedisServer) -> None:
    """It was refused for something else; whoever had a key had said what stands in it."""
    with Nightcrew(redis_server.url, signing_key=OLD) as app:
        app.enqueue(RunCanary(note="x"))
    [raw] = cast("list[bytes]", runtime.redis.lrange(RunCanary.queue, 0, -1))
    headers = json.loads(raw)["headers"]
    letter = letter_of_message(
        source=RunCanary.queue, headers=headers, payload={"note": "x"}, reason="test", received_at=runtime.clock()
    )
    append_dead_letter(runtime.redis, letter)
    [kept] = list_dead_letters(runtime)
    retry_dead_letter(runtime, kept.id)
    assert runtime.redis.llen(RunCanary.queue) == 2
