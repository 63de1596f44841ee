"""How many jobs of a kind may wait: kept to by every producer, on a real Redis."""

from __future__ import annotations

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew import Nightcrew, wire
from nightcrew._uuid7 import uuid7
from nightcrew.errors import EnqueueError, InvalidMessageError, QueueFullError
from nightcrew.messages import DrainUsage, RunCanary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.redis import RedisServer

KIND = RunCanary.kind
WAITING = wire.queued_jobs(KIND)


@pytest.fixture
def crew(redis_server: RedisServer) -> Iterator[Nightcrew]:
    with Nightcrew(redis_server.url) as crew:
        yield crew


@pytest.fixture
def redis(redis_server: RedisServer) -> Redis:
    return redis_server.client(decode_responses=True)


class PublishesNothing:
    """Leaves the messages to the reconciler, as a producer does that dies before it publishes."""

    def publish_many(self, *_: Any, **__: Any) -> None:
        """Publish nothing."""


def set_caps(redis: Redis, **caps: int) -> None:
    """Tell apps as the crew does; `any` stands for `*`, `canary` for its kind."""
    names = {"any": "*", "canary": KIND}
    redis.hset(wire.QUEUE_CAPS, mapping={names[name]: str(cap) for name, cap in caps.items()})


def large(size_bytes: int) -> RunCanary:
    """Give a message of that size, though no message of ours may be so large."""
    message = RunCanary()
    object.__setattr__(message, "note", "x" * size_bytes)
    return message


def enqueue_for_ever(crew: Nightcrew, messages: list[RunCanary]) -> None:
    while True:
        crew.enqueue_many(messages)


def intended(redis: Redis) -> list[str]:
    entries: Any = redis.xrange(wire.INTENTS)
    return [fields["id"] for _, fields in entries]


def counted(redis: Redis) -> set[str]:
    found: Any = redis.zrange(WAITING, 0, -1)
    return set(found)


def test_over_the_cap_nothing_is_taken(crew: Nightcrew, redis: Redis) -> None:
    """The error says of what kind how many wait and may wait, what to do, and that the job will not run."""
    set_caps(redis, any=3)
    taken = [crew.enqueue(RunCanary()).id for _ in range(3)]
    with pytest.raises(QueueFullError, match=r"ledger\.canary is full: 3 jobs wait and at most 3 may") as caught:
        crew.enqueue(RunCanary())
    error = caught.value
    assert (error.kind, error.waiting, error.cap, error.accepted) == (KIND, 3, 3, "no")
    assert "ledger.queue_cap" in str(error)
    assert isinstance(error, EnqueueError)
    assert (intended(redis), counted(redis), redis.llen("nightcrew.ledger")) == (taken, set(taken), 3)
    crew.enqueue(DrainUsage(partition=0))  # each kind has a cap of its own


def test_the_cap_of_a_kind_goes_before_that_of_all_others(crew: Nightcrew, redis: Redis) -> None:
    """Also when it is the larger one, and also when it is 0."""
    set_caps(redis, any=1, canary=2)
    crew.enqueue_many([RunCanary(), RunCanary()])
    with pytest.raises(QueueFullError, match="at most 2"):
        crew.enqueue(RunCanary())
    set_caps(redis, any=10, canary=0)
    redis.delete(WAITING)
    with pytest.raises(QueueFullError, match="0 jobs wait and at most 0 may"):
        crew.enqueue(RunCanary())


def test_without_caps_nothing_is_counted(crew: Nightcrew, redis: Redis) -> None:
    """A crew that publishes none would take no id out again."""
    crew.enqueue(RunCanary())
    assert (len(intended(redis)), redis.exists(WAITING)) == (1, 0)


def test_many_are_taken_all_or_none(crew: Nightcrew, redis: Redis) -> None:
    """One kind that is full refuses also the others of the call, the ones before it included."""
    set_caps(redis, any=10, canary=4)
    crew.enqueue_many([RunCanary()] * 3)
    with pytest.raises(QueueFullError, match="2 more cannot be taken") as caught:
        crew.enqueue_many([RunCanary(), RunCanary()])
    with pytest.raises(QueueFullError) as caught:
        crew.enqueue_many([DrainUsage(partition=0), RunCanary(), RunCanary()])
    assert len(caught.value.job_ids) == 3
    assert (len(intended(redis)), len(counted(redis))) == (3, 3)
    assert redis.exists(wire.queued_jobs(DrainUsage.kind)) == 0
    crew.enqueue_many([DrainUsage(partition=0), RunCanary()])
    assert (len(intended(redis)), len(counted(redis))) == (5, 4)


def test_the_same_id_again_counts_once(crew: Nightcrew, redis: Redis) -> None:
    """Whoever did not hear the answer may ask again, also when the job itself was the last that fitted."""
    set_caps(redis, any=2)
    job, other = crew.enqueue(RunCanary()), str(uuid7())
    crew.enqueue(RunCanary(), job_id=job.id)
    crew.enqueue_many([RunCanary(), RunCanary()], job_ids=[other, other])
    assert counted(redis) == {job.id, other}
    assert crew.enqueue(RunCanary(), job_id=other).id == other
    with pytest.raises(QueueFullError) as caught:
        crew.enqueue(RunCanary())
    redis.zrem(WAITING, job.id)
    crew.enqueue(RunCanary(), job_id=caught.value.job_id)


def test_ten_thousand_at_once(crew: Nightcrew, redis: Redis) -> None:
    """One script takes them; more, or too many bytes, are refused before anything is sent."""
    set_caps(redis, any=10_000)
    crew._intake()._publisher = PublishesNothing()  # type: ignore[assignment]  # ten thousand messages take their time
    jobs = crew.enqueue_many([RunCanary()] * 10_000)
    assert intended(redis) == [job.id for job in jobs]
    assert counted(redis) == {job.id for job in jobs}
    with pytest.raises(InvalidMessageError, match="10,001 jobs at once"):
        crew.enqueue_many([RunCanary()] * 10_001)
    with pytest.raises(InvalidMessageError, match="bytes at once"):
        crew.enqueue_many([large(500_000)] * 140)


def test_the_cap_is_exact_whoever_enqueues(redis_server: RedisServer, redis: Redis) -> None:
    """Of eight producers that begin at once, with one job or three each time, the cap gets in, and all know which did.

    Thirty times, because who looks first and writes later goes wrong only at the moment at which it becomes full.
    """
    set_caps(redis, any=7)
    together = threading.Barrier(8)

    def produce(producer: Nightcrew, size: int) -> list[str]:
        mine: list[str] = []
        together.wait(timeout=30)
        for _ in range(8):
            with suppress(QueueFullError):
                mine += [job.id for job in producer.enqueue_many([RunCanary()] * size)]
        return mine

    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        producers = [stack.enter_context(Nightcrew(redis_server.url, timeout_s=30)) for _ in range(8)]
        for _ in range(30):
            redis.delete(WAITING, wire.INTENTS)
            taken = [job_id for mine in pool.map(produce, producers, [1, 3] * 4) for job_id in mine]
            assert len(taken) == len(set(taken)) == 7
            assert set(intended(redis)) == counted(redis) == set(taken)


def test_operators_are_not_refused(redis_server: RedisServer, redis: Redis) -> None:
    """Their jobs are counted all the same."""
    set_caps(redis, any=1)
    with Nightcrew(redis_server.url, heeds_caps=False) as operator:
        operator.enqueue_many([RunCanary(), RunCanary()])
    assert (len(intended(redis)), len(counted(redis))) == (2, 2)


def test_a_producer_that_dies_before_it_publishes_has_enqueued(redis_server: RedisServer, redis: Redis) -> None:
    """Intent and count are one write; the message is the reconciler's business then."""
    set_caps(redis, any=5)
    if (child := os.fork()) == 0:
        crew = Nightcrew(redis_server.url)

        class DiesPublishing(PublishesNothing):
            def publish_many(self, *_: Any, **__: Any) -> None:
                os._exit(7)

        crew._intake()._publisher = DiesPublishing()  # type: ignore[assignment]
        crew.enqueue_many([RunCanary()] * 3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert redis.llen("nightcrew.ledger") == 0
    assert len(intended(redis)) == 3
    assert counted(redis) == set(intended(redis))


def test_full_memory_is_a_clear_no(own_redis_server: RedisServer) -> None:
    """With `maxmemory` reached nothing is stored, by one call or by many; with room again the same ids are taken."""
    redis = own_redis_server.client(decode_responses=True)
    set_caps(redis, any=100_000)
    with Nightcrew(own_redis_server.url) as crew:
        crew.enqueue(RunCanary())
        memory: Any = redis.info("memory")
        redis.config_set("maxmemory", memory["used_memory"] + 3_000_000)
        with pytest.raises(EnqueueError, match="has reached its maxmemory") as caught:
            enqueue_for_ever(crew, [large(10_000)] * 20)
        assert (caught.value.accepted, type(caught.value)) == ("no", EnqueueError)
        assert len(intended(redis)) == len(counted(redis))
        assert len(intended(redis)) % 20 == 1
        with pytest.raises(EnqueueError, match="it will not run"):
            enqueue_for_ever(crew, [RunCanary()])  # one small job finds a place where twenty large ones did not
        assert len(intended(redis)) == len(counted(redis))
        redis.config_set("maxmemory", 0)
        crew.enqueue_many([RunCanary()] * 20, job_ids=caught.value.job_ids)
        assert set(caught.value.job_ids) <= counted(redis)


def test_a_broken_key_leaves_nothing_half_written(crew: Nightcrew, redis: Redis) -> None:
    """Somebody else's value under our names is found before the first write."""
    set_caps(redis, any=10)
    redis.set(wire.queued_jobs(DrainUsage.kind), "no set")
    with pytest.raises(EnqueueError, match="will not run") as caught:
        crew.enqueue_many([RunCanary(), DrainUsage(partition=0)])
    assert caught.value.accepted == "no"
    assert (intended(redis), counted(redis)) == ([], set())
    redis.set(wire.INTENTS, "no stream")
    with pytest.raises(EnqueueError, match="will not run"):
        crew.enqueue_many([RunCanary(), RunCanary()])
    assert counted(redis) == set()


def test_the_error_survives_pickling() -> None:
    """As errors do that cross a process pool."""
    error = QueueFullError(kind="a.b", waiting=1_200, cap=1_000, job_ids=("x", "y"))
    again = copy.copy(error)  # goes the way of pickle
    assert (str(again), again.kind, again.waiting, again.cap) == (str(error), "a.b", 1_200, 1_000)
    assert (again.job_id, again.job_ids, again.accepted) == ("x", ("x", "y"), "no")
