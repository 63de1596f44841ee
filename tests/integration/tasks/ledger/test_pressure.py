"""What apps count as waiting is what waits: from the enqueue to the claim, and again after anything went wrong."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew import Nightcrew, wire
from nightcrew.errors import QueueFullError
from nightcrew.messages import RunCanary
from tasks.errors import PermanentError, TransientError
from tasks.ledger.operations import list_dead_letters, queue_depths
from tasks.ledger.pressure import KindDepth, kind_depths, mend_counts
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.store import runs, waiting
from tasks.ledger.store.queues import unacked_key
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.ledger.store.queues import QueueDepth
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench
    from tests.support.redis import RedisServer

KIND = RunCanary.kind
QUEUE = RunCanary.queue
WAITING = wire.queued_jobs(KIND)


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[Nightcrew]:
    """Give an app that reads the caps of the bench's crew."""
    with Nightcrew(redis_server.url) as app:
        yield app


def set_caps(bench: Bench, cap: int = 100, **caps: int) -> None:
    """Set the caps of the crew, `canary` for its kind, and let the reconciler publish them."""
    names = {"canary": KIND}
    options = replace(bench.runtime.ledger, queue_cap=cap, queue_caps={names[name]: one for name, one in caps.items()})
    bench.runtime = replace(bench.runtime, ledger=options)
    reconcile(bench.runtime)


def counted(bench: Bench) -> set[str]:
    found: Any = bench.redis.zrange(WAITING, 0, -1)
    return {job_id.decode() for job_id in found}


def canaries(bench: Bench) -> KindDepth:
    return next(depth for depth in kind_depths(bench.runtime) if depth.kind == KIND)


def depth(bench: Bench) -> QueueDepth:
    return queue_depths(bench.runtime, [QUEUE])[0]


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def fail(_message: object, _runtime: Runtime) -> None:
    raise TransientError("not now")


def refuse(_message: object, _runtime: Runtime) -> None:
    raise PermanentError("never")


def test_a_claim_makes_room(bench: Bench, app: Nightcrew) -> None:
    """A job counts until a worker has begun it, not until it has ended; apps see both at the same moment."""
    set_caps(bench, canary=1)
    job = app.enqueue(RunCanary())
    with pytest.raises(QueueFullError):
        app.enqueue(RunCanary())

    def work(_message: object, _runtime: Runtime) -> None:
        wait_until(lambda: not counted(bench), timeout_s=5, what="room for another job")
        assert job.state() == "running"
        app.enqueue(RunCanary())

    assert bench.deliver(work, job_id=job.id).verdict == "succeeded"


def test_a_job_that_is_tried_again_counts_again(bench: Bench, app: Nightcrew) -> None:
    """It waits once more; ended, whichever way, it does not."""
    set_caps(bench)
    job, other = app.enqueue(RunCanary()), app.enqueue(RunCanary())
    assert bench.deliver(fail, job_id=job.id).verdict == "retried"
    assert bench.deliver(refuse, job_id=other.id).verdict == "failed"
    assert counted(bench) == {job.id}
    bench.deliver(done, job_id=job.id)
    assert counted(bench) == set()


def test_an_old_message_does_not_bring_it_back(bench: Bench, app: Nightcrew) -> None:
    """A job that has begun, and whose intent is taken in after that, counts no more."""
    set_caps(bench)
    job = app.enqueue(RunCanary())
    bench.deliver(done, job_id=job.id)
    reconcile(bench.runtime)
    bench.deliver(done, job_id=job.id)
    assert (counted(bench), bench.run(job.id).attempt) == (set(), 1)


def test_what_becomes_no_run_counts_no_more(bench: Bench, app: Nightcrew) -> None:
    """A job whose dedup key is taken, and an intent that nobody can read, of a kind that nobody knows."""
    set_caps(bench)
    app.enqueue(RunCanary(), dedup_key="once")
    twin = app.enqueue(RunCanary(), dedup_key="once")
    foreign = wire.queued_jobs("foreign.kind")
    bench.redis.zadd(foreign, {JOB_ID: 1.0})
    bench.intend(kind="foreign.kind")
    reconcile(bench.runtime)
    assert (twin.state(), len(counted(bench)), bench.redis.exists(foreign)) == ("cancelled", 1, 0)
    assert [letter.job_id for letter in list_dead_letters(bench.runtime)] == [JOB_ID]


def test_caps_that_are_taken_back_disappear(bench: Bench) -> None:
    """What apps are told is what the settings say, after a reconcile at the latest, and after a wipe as well."""
    set_caps(bench, 7, canary=3)
    assert waiting.read_caps(bench.redis) == {"*": 7, KIND: 3}
    assert (canaries(bench).cap, kind_depths(bench.runtime)[-1].cap) == (3, 7)
    set_caps(bench, 8)
    assert waiting.read_caps(bench.redis) == {"*": 8}
    bench.redis.flushall()
    reconcile(bench.runtime)
    assert waiting.read_caps(bench.redis) == {"*": 8}


def test_one_reconcile_mends_every_drift(bench: Bench, app: Nightcrew) -> None:
    """Ids of what has begun, of what never was, of another kind; and queued runs that nobody counts."""
    set_caps(bench, 5_000)
    queued = [job.id for job in app.enqueue_many([RunCanary()] * 600)]
    begun = app.enqueue(RunCanary()).id
    bench.deliver(done, job_id=begun)
    for _ in range(2):  # what changed of late is mirrored again each time, and is right by that alone
        reconcile(bench.runtime)
        bench.clock.advance(minutes=5)
    bench.redis.zadd(WAITING, {begun: 1.0, OTHER_ID: 1.0, "no id": 1.0})
    bench.redis.zrem(WAITING, *queued[50:550])
    assert reconcile(bench.runtime).recounted == 503
    assert counted(bench) == set(queued)
    assert reconcile(bench.runtime).recounted == 0
    assert (canaries(bench).queued, canaries(bench).counted) == (600, 600)


def test_a_wiped_broker_counts_anew(bench: Bench, app: Nightcrew) -> None:
    """Redis comes back empty: what the ledger knows is counted, and the caps hold again."""
    set_caps(bench, canary=2)
    jobs = {app.enqueue(RunCanary()).id for _ in range(2)}
    reconcile(bench.runtime)
    bench.redis.flushall()
    reconcile(bench.runtime)
    assert counted(bench) == jobs
    with pytest.raises(QueueFullError):
        app.enqueue(RunCanary())


def test_a_worker_that_dies_after_its_claim(bench: Bench, app: Nightcrew) -> None:
    """It told nobody: the next reconcile does, and the one after the end of its lease counts the run again."""
    set_caps(bench)
    job = app.enqueue(RunCanary())
    reconcile(bench.runtime)
    runs.claim(
        bench.runtime.engine,
        bench.wanted(job.id),
        now=bench.clock(),
        worker="killed@test",
        lease=bench.runtime.ledger.lease,
        max_attempts=3,
    )
    assert counted(bench) == {job.id}
    reconcile(bench.runtime)
    assert counted(bench) == set()
    bench.clock.advance(minutes=10)
    reconcile(bench.runtime)
    assert counted(bench) == {job.id}


def test_what_is_not_taken_in_yet_is_left_alone(bench: Bench, app: Nightcrew) -> None:
    """A job that is enqueued while counts are mended is on its way into the ledger."""
    set_caps(bench)
    job = app.enqueue(RunCanary())
    bench.redis.zadd(WAITING, {OTHER_ID: 1.0})
    assert mend_counts(bench.runtime) == 1
    assert counted(bench) == {job.id}


def test_counts_are_right_after_load(bench: Bench, app: Nightcrew, seed: int) -> None:
    """Apps enqueue, workers claim, reconcilers mend, all at once: after one more pass the numbers are the same."""
    set_caps(bench)
    dice = random.Random(seed)

    def produce() -> list[str]:
        return [app.enqueue(RunCanary()).id for _ in range(30)]

    def work(job_ids: list[str]) -> None:
        for job_id in job_ids:
            bench.deliver(dice.choice([done, fail, refuse]), job_id=job_id)

    def mend() -> None:
        for _ in range(3):
            reconcile(bench.runtime)

    first = produce()
    with ThreadPoolExecutor(4) as pool:
        second = pool.submit(produce)
        for one in [pool.submit(mend), pool.submit(mend), pool.submit(work, first[:20])]:
            one.result()
    reconcile(bench.runtime)
    still_queued = {job_id for part in waiting.queued_ids(bench.runtime.engine, KIND) for job_id in part}
    assert counted(bench) == still_queued
    assert {*first[20:], *second.result()} <= still_queued


def test_age_of_a_queue_without_workers(quick_bench: Bench, app: Nightcrew) -> None:
    """It grows from the moment of the enqueue, for what waits and for what the last worker took and left."""
    bench, taken = quick_bench, unacked_key(QUEUE)
    before = datetime.now(UTC)
    app.enqueue_many([RunCanary(), RunCanary()])
    full = depth(bench)
    assert full.oldest_at is not None
    assert (full.waiting, before <= full.oldest_at <= datetime.now(UTC)) == (2, True)
    stored: Any = bench.redis.rpop(QUEUE)
    bench.redis.hset(taken, mapping={"tag": json.dumps([json.loads(stored), "", QUEUE]), "other": "no message"})
    bench.redis.zadd(f"{taken}:index", {"tag": 1.0, "other": 2.0, "gone": 3.0})
    left = depth(bench)
    assert left.oldest_at is not None
    assert (left.waiting, left.unacked, left.oldest_at > full.oldest_at) == (1, 2, True)
    assert left.oldest_of_all_at == left.oldest_unacked_at == full.oldest_at


def test_age_of_queued_runs(bench: Bench, app: Nightcrew) -> None:
    """It grows though the message is lost; a run that waits for its next attempt is counted, and not old."""
    set_caps(bench)
    job = app.enqueue(RunCanary())
    bench.redis.delete("nightcrew.ledger")
    reconcile(bench.runtime)
    bench.clock.advance(minutes=7)
    assert canaries(bench) == KindDepth(
        kind=KIND, queued=1, oldest_at=bench.clock() - timedelta(minutes=7), counted=1, cap=100
    )
    assert bench.deliver(done, job_id=job.id).verdict == "succeeded"
    bench.deliver(done)  # a message without an intent
    assert (canaries(bench).queued, canaries(bench).oldest_at) == (0, None)
