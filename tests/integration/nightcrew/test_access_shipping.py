"""What a process asks of its cache reaches the access log, to the last operation, and the app never feels it."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew import wire
from nightcrew._redis import connect
from nightcrew.cache._access_batch import decode
from nightcrew.cache._shipping import AccessShipper
from tests.support import wait_until
from tests.support.processes import spawned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.processes import SpawnedProcess
    from tests.support.redis import RedisServer

NAMES = ("hits", "misses", "sets", "deletes", "bytes_read", "bytes_written")


def shipper_on(server: RedisServer, *, interval_s: float = 0.02, timeout_s: float = 2.0) -> AccessShipper:
    return AccessShipper(partial(connect, server.url, timeout_s), interval_s=interval_s)


@pytest.fixture
def shipper(redis_server: RedisServer) -> Iterator[AccessShipper]:
    shipper = shipper_on(redis_server)
    yield shipper
    shipper.close()


def logged(redis: Redis) -> dict[str, Counter[str]]:
    """Add the log up by family, and check that it says the same of itself."""
    sums: dict[str, Counter[str]] = {}
    entries: Any = redis.xrange(wire.ACCESS_LOG)
    seen = set()
    for _, told in entries:
        assert (told[b"p"], told[b"s"]) not in seen
        seen.add((told[b"p"], told[b"s"]))
        for one in decode(told[b"d"]).families:
            sums.setdefault(one.family, Counter()).update({name: getattr(one, name) for name in NAMES})
    totals: Any = redis.hgetall(wire.ACCESS_TOTALS)
    for family, counts in sums.items():
        operations = sum(counts[name] for name in ("hits", "misses", "sets", "deletes"))
        assert int(totals[f"logged:{family}".encode()]) == operations
    return {family: +counts for family, counts in sums.items()}


def ask(shipper: AccessShipper, rng: random.Random, times: int, expected: dict[str, Counter[str]]) -> None:
    """Ask for something and note what was asked."""
    for _ in range(times):
        family, size = rng.choice(("defaults", "sessions")), rng.randrange(1, 100)
        operation, hit = rng.choice((("get", True), ("get", False), ("set", False), ("delete", False)))
        shipper.record(family, f"key.{rng.randrange(50)}", operation, hit=hit, size_bytes=size)  # type: ignore[arg-type]
        counts = expected.setdefault(family, Counter())
        if operation == "get":
            counts.update(hits=int(hit), misses=int(not hit), bytes_read=size if hit else 0)
        else:
            counts.update({f"{operation}s": 1, "bytes_written": size if operation == "set" else 0})


def test_operations_arrive_exactly(shipper: AccessShipper, redis_server: RedisServer, seed: int) -> None:
    """From several threads, over many shipments."""
    expected: list[dict[str, Counter[str]]] = [{} for _ in range(4)]

    def work(number: int) -> None:
        rng = random.Random(seed + number)
        for _ in range(10):
            ask(shipper, rng, 500, expected[number])
            shipper.flush(5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shipper.close()
    sums: dict[str, Counter[str]] = {}
    for one in expected:
        for family, counts in one.items():
            sums.setdefault(family, Counter()).update(counts)
    assert logged(redis_server.client()) == sums


def test_they_leave_by_themselves(shipper: AccessShipper, redis_server: RedisServer) -> None:
    """Nobody has to flush."""
    shipper.record("defaults", "k", "get", hit=True, size_bytes=3)
    client = redis_server.client()
    wait_until(lambda: client.xlen(wire.ACCESS_LOG), timeout_s=5, what="a shipment")
    assert logged(client) == {"defaults": Counter(hits=1, bytes_read=3)}


def test_nothing_is_sent_where_nothing_was_asked(shipper: AccessShipper, redis_server: RedisServer) -> None:
    """An idle app leaves no entries."""
    assert shipper.flush(5)
    assert shipper.flush(5)
    assert not redis_server.client().exists(wire.ACCESS_LOG)


def test_an_outage_loses_and_doubles_nothing(own_redis_server: RedisServer, seed: int) -> None:
    """Redis is killed, frozen and started again between and during shipments; what was asked meanwhile follows."""
    rng = random.Random(seed)
    expected: dict[str, Counter[str]] = {}
    shipper = shipper_on(own_redis_server, interval_s=0.005, timeout_s=0.2)
    for blow in ("kill9", "sigstop", "kill9", "sigstop"):
        ask(shipper, rng, 200, expected)
        # What Redis has acknowledged and not yet written to its disk is lost with it: not what is looked for here.
        own_redis_server.client().config_set("appendfsync", "always")
        getattr(own_redis_server, blow)()
        ask(shipper, rng, 200, expected)
        assert not shipper.flush(0.3)
        own_redis_server.start() if blow == "kill9" else own_redis_server.sigcont()
        assert shipper.flush(10)
    assert shipper.close()
    assert logged(own_redis_server.client()) == expected


def test_the_app_does_not_wait_for_a_frozen_redis(own_redis_server: RedisServer) -> None:
    """Not one request, and the end only as long as it was told to."""
    shipper = shipper_on(own_redis_server, timeout_s=30)
    shipper.record("defaults", "k", "get", hit=True, size_bytes=1)
    assert shipper.flush(5)
    own_redis_server.sigstop()
    slowest = 0.0
    for _ in range(200):
        started = time.monotonic()
        shipper.record("defaults", "k", "get", hit=True, size_bytes=1)
        slowest = max(slowest, time.monotonic() - started)
        shipper.flush(0.001)
    started = time.monotonic()
    assert not shipper.close(timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert slowest < 1
    own_redis_server.sigcont()


def test_a_salt_of_others_is_taken_over(own_redis_server: RedisServer) -> None:
    """A log begun anew by somebody else: counters arrive all the same, and hashes are made with its salt."""
    client = own_redis_server.client()
    shipper = shipper_on(own_redis_server)
    shipper.record("defaults", "k", "get", hit=True, size_bytes=1)
    assert shipper.flush(5)
    own_redis_server.flush()
    client.hset(wire.ACCESS_META, mapping={"epoch": "e", "salt": "ab" * 16})
    shipper.record("defaults", "k", "get", hit=False, size_bytes=0)
    assert shipper.flush(5)
    shipper.record("defaults", "k", "get", hit=False, size_bytes=0)
    assert shipper.close()
    assert logged(client) == {"defaults": Counter(misses=2)}
    assert client.hget(wire.ACCESS_META, "salt") == b"ab" * 16
    other = shipper_on(own_redis_server)
    other.record("defaults", "k", "get", hit=False, size_bytes=0)
    assert other.close()
    assert client.zcard(wire.access_hot("defaults")) == 1, "two processes hash the same key differently"


_CHILD = """
import os, sys
from functools import partial
from nightcrew._redis import connect
from nightcrew.cache._shipping import AccessShipper
shipper = AccessShipper(partial(connect, sys.argv[1], 5.0), interval_s=600)
"""


def test_what_was_asked_last_leaves_at_exit(redis_server: RedisServer) -> None:
    """Without a word of the app."""
    script = f"{_CHILD}\nfor _ in range(7): shipper.record('defaults', 'k', 'get', hit=True, size_bytes=2)"
    with spawned([sys.executable, "-c", script, redis_server.url]) as process:
        assert process.wait(timeout_s=30) == 0, process.output()
    assert logged(redis_server.client()) == {"defaults": Counter(hits=7, bytes_read=14)}


def test_a_forked_child_ships_its_own(redis_server: RedisServer) -> None:
    """What the parent had noted leaves once, from the parent."""
    script = f"""{_CHILD}
import multiprocessing
for _ in range(5): shipper.record('defaults', 'k', 'get', hit=True, size_bytes=1)
shipper.flush(5)
for _ in range(5): shipper.record('defaults', 'k', 'get', hit=True, size_bytes=1)
def work():
    for _ in range(3): shipper.record('sessions', 'k', 'get', hit=True, size_bytes=1)
children = [multiprocessing.get_context('fork').Process(target=work) for _ in range(3)]
[child.start() for child in children]
[child.join() for child in children]
assert [child.exitcode for child in children] == [0, 0, 0]
"""
    with spawned([sys.executable, "-c", script, redis_server.url]) as process:
        assert process.wait(timeout_s=30) == 0, process.output()
    counts = {family: counts["hits"] for family, counts in logged(redis_server.client()).items()}
    assert counts == {"defaults": 10, "sessions": 9}


def test_a_killed_app_loses_at_most_what_was_not_shipped(redis_server: RedisServer, seed: int) -> None:
    """What it had flushed is there once; more than it asked is never there."""
    script = f"""{_CHILD}
import itertools
for number in itertools.count(1):
    os.write(1, b'a%d\\n' % number)
    shipper.record('defaults', 'k', 'get', hit=True, size_bytes=1)
    if number % 3 == 0 and shipper.flush(5):
        os.write(1, b'f%d\\n' % number)
"""
    rng, client, asked, flushed = random.Random(seed), redis_server.client(), 0, 0
    for _ in range(4):
        enough = rng.randrange(200, 2_000)
        with spawned([sys.executable, "-c", script, redis_server.url]) as process:
            wait_until(partial(_has_told, process, enough), timeout_s=30, what="some work", interval_s=0.001)
            process.kill()
            told = [line for line in process.output().splitlines(keepends=True) if line.endswith("\n")]
        asked += max(int(line[1:]) for line in told if line[0] == "a")
        flushed += max((int(line[1:]) for line in told if line[0] == "f"), default=0)
    assert flushed <= logged(client)["defaults"]["hits"] <= asked


def _has_told(process: SpawnedProcess, characters: int) -> bool:
    return len(process.output()) > characters


def test_a_process_hears_what_the_others_ask_for(shipper: AccessShipper, redis_server: RedisServer) -> None:
    """The first answer, and one each minute, names the hottest keys of all."""
    first = shipper_on(redis_server)
    for _ in range(9):
        first.record("defaults", "popular", "get", hit=True, size_bytes=1)
    assert first.close()
    shipper.record("defaults", "rare", "get", hit=True, size_bytes=1)
    assert shipper.flush(5)
    ranked: Any = redis_server.client().zrange(wire.access_hot("defaults"), 0, -1, desc=True)
    assert len(ranked) == 2
    assert shipper._sampler.hot["defaults"] == [one.decode() for one in ranked]


def test_hours_are_told_apart(redis_server: RedisServer) -> None:
    """What was asked before the turn of an hour leaves apart from what came after it, however late both leave."""
    turn = time.monotonic() + 0.2
    shipper = AccessShipper(
        partial(connect, redis_server.url, 2.0), interval_s=600, clock=lambda: 7_200 + time.monotonic() - turn
    )
    shipper.record("defaults", "k", "get", hit=True, size_bytes=1)
    wait_until(lambda: shipper._pending, timeout_s=5, what="the turn of the hour")
    assert time.monotonic() >= turn
    for _ in range(2):
        shipper.record("defaults", "k", "get", hit=True, size_bytes=1)
    assert shipper.close()
    entries: Any = redis_server.client().xrange(wire.ACCESS_LOG)
    assert [decode(told[b"d"]).families[0].hits for _, told in entries] == [1, 2]
