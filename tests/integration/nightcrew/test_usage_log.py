"""Flushes into a real Redis: each exactly once, whatever happens to it."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from nightcrew import Nightcrew, wire
from nightcrew._batch import Batch
from nightcrew._redis import connect
from nightcrew._usage_log import UsageLog, partition_of
from tests.support import wait_until
from tests.support.processes import spawned

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from tests.support.redis import RedisServer

_HOUR = 500_000


def _totals(redis: Redis, partitions: int = 1) -> Counter[str]:
    """Sum the raw log up by key, and check that each key lies in its partition."""
    totals: Counter[str] = Counter()
    for partition in range(partitions):
        entries: Any = redis.xrange(wire.usage_stream(partition))
        for _, fields in entries:
            assert (fields[b"v"], fields[b"op"]) == (b"1", b"add")
            for _, _, _, counts in json.loads(fields[b"d"]):
                assert all(partition_of(key, partitions) == partition for key in counts)
                totals.update(counts)
    return totals


def _is_longer(file: Path, size_bytes: int) -> bool:
    return file.exists() and file.stat().st_size > size_bytes


def _batch(seq: int, **counts: int) -> Batch:
    return Batch(producer="ab" * 16, seq=seq, groups=(((_HOUR, "", "n"), counts),))


def test_counts_arrive_exactly(redis_server: RedisServer) -> None:
    """Singles, many, large sets and several flushes add up."""
    rng = random.Random(7)
    keys = rng.choices([f"k{n}" for n in range(8_000)], k=60_000)
    with Nightcrew(redis_server.url, flush_interval_s=0.05) as crew:
        for key in keys[:30_000]:
            crew.usage.increment(key)
        crew.usage.increment_many(keys[30_000:])
        crew.usage.flush()
        assert crew.usage.pending == 0
        assert _totals(redis_server.client()) == Counter(keys)


def test_a_flush_is_written_once(redis_server: RedisServer) -> None:
    """A number written before changes nothing; its bell rings, since the first answer was not heard."""
    redis = redis_server.client()
    log = UsageLog(connect(redis_server.url, 5))
    assert log.append(_batch(1, a=1)) == [0]
    assert log.append(_batch(1, a=1)) == [0]
    assert log.append(_batch(2, a=5)) == []
    assert log.append(_batch(1, a=1)) == [0]
    assert _totals(redis) == {"a": 6}
    assert redis.get(wire.usage_producer("ab" * 16)) == b"2"
    assert 0 < redis.ttl(wire.usage_bell(0)) <= 30
    meta: Any = redis.hgetall(wire.USAGE_META)
    assert (meta[b"partitions"], len(meta[b"epoch"])) == (b"1", 32)


def test_a_repartitioned_log_gets_the_same_flush_split_anew(redis_server: RedisServer) -> None:
    """Under its old number: what arrived before the change is known after it."""
    redis = redis_server.client()
    log = UsageLog(connect(redis_server.url, 5))
    counts = {f"k{n}": n + 1 for n in range(50)}
    log.append(_batch(1, **counts))
    redis.hset(wire.USAGE_META, "partitions", "4")
    before = redis.xlen(wire.usage_stream(0))
    assert log.append(_batch(1, **counts)) == [0, 1, 2, 3]
    assert redis.xlen(wire.usage_stream(0)) == before
    redis.delete(wire.usage_stream(0))
    assert log.append(_batch(2, **counts)) == []  # the bells ring already
    assert _totals(redis, 4) == counts
    entries: Any = [redis.xrange(wire.usage_stream(partition)) for partition in range(4)]
    assert {fields[b"s"] for of_partition in entries for _, fields in of_partition} == {b"2"}


def test_a_stream_of_another_type_stops_the_whole_flush(redis_server: RedisServer) -> None:
    """A script is not rolled back, so nothing is written before all is looked at."""
    redis = redis_server.client()
    redis.hset(wire.USAGE_META, "partitions", "2")
    redis.set(wire.usage_stream(1), "not a stream")
    log = UsageLog(connect(redis_server.url, 5))
    with pytest.raises(ResponseError, match="instead of the usage log"):
        log.append(_batch(1, **{f"k{n}": 1 for n in range(20)}))
    assert redis.xlen(wire.usage_stream(0)) == 0
    assert redis.get(wire.usage_producer("ab" * 16)) is None


def test_resets_are_entries_of_the_log(redis_server: RedisServer) -> None:
    """Of one key in its partition, of all keys in every one."""
    redis = redis_server.client()
    redis.hset(wire.USAGE_META, "partitions", "2")
    log = UsageLog(connect(redis_server.url, 5))
    log.append_reset(key="k", context="", producer="cd" * 16)
    log.append_reset(key=None, context=None, producer="ef" * 16)
    log.append_reset(key=None, context=None, producer="ef" * 16)
    entries: Any = [redis.xrange(wire.usage_stream(partition)) for partition in range(2)]
    written = [[json.loads(fields[b"d"]) for _, fields in of_partition] for of_partition in entries]
    everything = {"key": None, "context": None}
    assert sorted(written, key=len) == [[everything], [{"key": "k", "context": ""}, everything]]


def test_an_outage_loses_and_doubles_nothing(own_redis_server: RedisServer) -> None:
    """Redis is killed twice and frozen once while an app counts."""
    crew = Nightcrew(own_redis_server.url, flush_interval_s=0.01, timeout_s=0.5)
    counted = 0

    def count(times: int) -> None:
        nonlocal counted
        for number in range(times):
            crew.usage.increment(f"k{number % 50}")
        counted += times

    count(5_000)
    crew.usage.flush(10)
    for _ in range(2):
        count(5_000)
        own_redis_server.kill9()
        count(5_000)
        own_redis_server.start()
    count(5_000)
    own_redis_server.sigstop()
    count(5_000)
    wait_until(lambda: not crew.usage._flusher.is_succeeding, timeout_s=10, what="a flush that failed")
    own_redis_server.sigcont()
    crew.usage.flush(20)
    crew.close()
    assert sum(_totals(own_redis_server.client()).values()) == counted


def test_a_doorbell_is_rung(redis_server: RedisServer) -> None:
    """One message for the usage queue per partition whose bell was silent."""
    redis = redis_server.client()
    with Nightcrew(redis_server.url) as crew:
        for _ in range(3):
            crew.usage.increment("k")
            crew.usage.flush()
    queued: Any = redis.lrange("nightcrew.usage", 0, -1)
    (message,) = map(json.loads, queued)
    assert message["headers"]["task"] == "usage.drain"


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise RuntimeError"])
def test_the_end_of_the_interpreter_flushes(redis_server: RedisServer, ending: str) -> None:
    """However the program ends, short of a signal it does not handle."""
    code = (
        "from nightcrew import Nightcrew\n"
        f"crew = Nightcrew({redis_server.url!r}, flush_interval_s=60)\n"
        "for n in range(1000): crew.usage.increment(f'k{n % 10}')\n"
        f"{ending}"
    )
    with spawned([sys.executable, "-c", code]) as process:
        process.wait(timeout_s=30)
    assert _totals(redis_server.client()) == {f"k{n}": 100 for n in range(10)}


def test_with_a_spool_a_kill_loses_nothing(own_redis_server: RedisServer, tmp_path: Path) -> None:
    """Killed with SIGKILL in the middle of counting and flushing, again and again: what returned is there."""
    told = tmp_path / "told"
    spool = tmp_path / "spool"
    code = (
        "import os, sys; from pathlib import Path; from nightcrew import Nightcrew\n"
        f"crew = Nightcrew({own_redis_server.url!r}, flush_interval_s=0.005, spool=Path({str(spool)!r}))\n"
        f"told = os.open({str(told)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "while True:\n"
        "    crew.usage.increment('k'); os.write(told, b'x')\n"
    )
    rng = random.Random(3)
    for round_ in range(3):
        floor = told.stat().st_size if told.exists() else 0
        goal = floor + rng.randrange(2_000, 6_000)
        with spawned([sys.executable, "-c", code]) as process:
            wait_until(partial(_is_longer, told, goal), timeout_s=30, what=f"{round_}")
            process.kill()
    Nightcrew(own_redis_server.url, spool=spool).close()
    counted, arrived = told.stat().st_size, _totals(own_redis_server.client())["k"]
    assert counted <= arrived <= counted + 3  # the count after the last "x" of each round may have been made
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_whoever_counts_nothing_hands_over_what_all_dead_apps_left(
    redis_server: RedisServer, tmp_path: Path, left: int
) -> None:
    """One process that opens the spool empties it, however many killed apps have left something there."""
    spool, told = tmp_path / "spool", tmp_path / "told"
    code = (
        "import time; from pathlib import Path; from nightcrew import Nightcrew\n"
        f"crew = Nightcrew({redis_server.url!r}, flush_interval_s=600, spool=Path({str(spool)!r}))\n"
        f"crew.usage.increment('k'); Path({str(told)!r}).open('a').write('x')\n"
        "time.sleep(600)\n"
    )
    with ExitStack() as stack:
        apps = [stack.enter_context(spawned([sys.executable, "-c", code])) for _ in range(left)]
        wait_until(partial(_is_longer, told, left - 1), timeout_s=30, what="all counts")
        for app in apps:
            app.kill()
    Nightcrew(redis_server.url, spool=spool).close()
    assert _totals(redis_server.client()) == {"k": left}
    assert list(spool.iterdir()) == []
