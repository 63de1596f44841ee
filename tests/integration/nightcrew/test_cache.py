"""The cache on a real Redis: what it gives, what it never gives, and what it does while Redis is away."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew import Nightcrew, wire
from nightcrew.cache import _events
from nightcrew.cache._entries import Entry, UncacheableError
from nightcrew.cache.client import Cache
from nightcrew.cache.policy import DEFAULT_POLICY, FamilyPolicy, Rollout
from nightcrew.errors import ClosedError, InvalidPolicyError
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.redis import RedisServer


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[Cache]:
    made = Cache(redis_server.url)
    yield made
    made.close()


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[Cache]:
    """Give the cache of another process, as far as this one can tell."""
    made = Cache(redis_server.url)
    yield made
    made.close()


@pytest.fixture
def lonely(own_redis_server: RedisServer) -> Iterator[tuple[Cache, RedisServer]]:
    """Give a cache whose Redis may be killed."""
    made = Cache(own_redis_server.url, timeout_s=0.2)
    made.get("defaults", "k")
    assert made._keeper.is_listening.wait(10)  # else its first hearing would drop the copies of the test
    yield made, own_redis_server
    made.close()


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, "ü", None]}, "\u2028", 1.5, False])
def test_a_value_comes_back_as_it_was(cache: Cache, value: Any) -> None:
    """Nothing is also a value: it is told from what is not there."""
    assert cache.get("defaults", "k", "absent") == "absent"
    assert cache.set("defaults", "k", value)
    assert cache.get("defaults", "k", "absent") == value


def test_many_at_once(cache: Cache) -> None:
    """Those that are there, in one round trip each way, in families of either kind."""
    for family in ("defaults", "sessions"):
        assert cache.set_many(family, {f"k{number}": number for number in range(50)})
        found = cache.get_many(family, [f"k{number}" for number in range(0, 100, 2)])
        assert found == {f"k{number}": number for number in range(0, 50, 2)}
    assert cache.get_many("defaults", []) == {}


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, "x" * (8 * 1024 * 1024)])
def test_what_is_no_json_or_too_large_is_refused(cache: Cache, value: Any) -> None:
    """Where it is written, and nothing of it is kept."""
    with pytest.raises(UncacheableError):
        cache.set_many("defaults", {"good": 1, "bad": value})
    assert cache.get_many("defaults", ["good", "bad"]) == {}
    with pytest.raises(UncacheableError):
        cache.write_through("defaults", "k", value, lambda _: pytest.fail("nothing may be written"))


def test_a_family_that_is_not_in_the_policy_is_an_error(cache: Cache) -> None:
    """At once, with those that there are."""
    for call in (cache.get, cache.delete):
        with pytest.raises(InvalidPolicyError, match="configuration, defaults, models"):
            call("nothing", "k")


def test_times_to_live_are_those_of_the_policy(cache: Cache, redis_server: RedisServer) -> None:
    """Shortened by jitter, never longer; begun anew by each request where the family says so."""
    client = redis_server.client()
    for family, seconds in (("defaults", 3600), ("statistics", 86400), ("configuration", 1800), ("sessions", 7200)):
        cache.set_many(family, dict.fromkeys(map(str, range(50)), 1))
        left = [client.pttl(wire.cache_entry(family, 0, str(number))) for number in range(50)]
        assert all(0.89 * seconds * 1000 < one <= seconds * 1000 for one in left)
        assert len(set(left)) > 10
    name = wire.cache_entry("sessions", 0, "7")
    client.pexpire(name, 1_000)
    assert cache.get("sessions", "7") == 1
    assert client.pttl(name) > 7_100_000
    name = wire.cache_entry("defaults", 0, "7")
    client.pexpire(name, 1_000)
    assert cache.get("defaults", "7") == 1
    assert client.pttl(name) <= 1_000


def test_another_policy_is_heard(cache: Cache, redis_server: RedisServer) -> None:
    """Its times hold from then on, on the side of the rollout that a key is on; one that is none changes nothing."""
    client = redis_server.client()
    cache.ping()
    cache.get("defaults", "k")
    policy = replace(
        DEFAULT_POLICY,
        version=1,
        families={**DEFAULT_POLICY.families, "defaults": FamilyPolicy(ttl_s=10, jitter=0)},
        rollout=Rollout(family="defaults", ttl_s=20, share=0.5),
    )
    _publish(client, policy.to_json())
    wait_until(lambda: cache.policy == policy, timeout_s=5, what="the new policy")
    cache.set_many("defaults", dict.fromkeys(map(str, range(200)), 1))
    seconds = Counter(round(client.pttl(wire.cache_entry("defaults", 0, str(one))) / 1000) for one in range(200))
    assert set(seconds) == {10, 20}
    assert 60 < seconds[20] < 140
    _publish(client, '{"schema":1}')
    _publish(client, replace(policy, version=2).to_json())
    wait_until(lambda: cache.policy.version == 2, timeout_s=5, what="the policy after the wrong one")


def test_what_is_deleted_by_one_is_gone_for_all(cache: Cache, other: Cache) -> None:
    """One key, several, or a whole family; other families stay."""
    for family in ("defaults", "models"):
        cache.set_many(family, {"a": 1, "b": 2, "c": 3})
        assert other.get_many(family, "abc") == {"a": 1, "b": 2, "c": 3}
    assert other.delete("defaults", "a")
    assert cache.get_many("defaults", "abc") == {"b": 2, "c": 3}
    assert other.invalidate("defaults")
    wait_until(lambda: cache.get_many("defaults", "abc") == {}, timeout_s=5, what="the forgotten family")
    assert cache.get_many("models", "abc") == {"a": 1, "b": 2, "c": 3}
    cache.set("defaults", "a", 9)
    assert other.get("defaults", "a") == 9


@pytest.mark.parametrize("round_", range(5))
def test_one_filler_at_a_time(cache: Cache, other: Cache, round_: int) -> None:
    """Sixteen ask two processes' caches for each of many things that are not there: each is asked for once."""
    asked: Counter[str] = Counter()
    lock = threading.Lock()
    start = threading.Barrier(16)

    def fill(key: str) -> str:
        with lock:
            asked[key] += 1
        return key

    def work(one: Cache) -> None:
        start.wait()
        for number in range(40):
            key = f"{round_}.{number}"
            assert one.get_or_fill("defaults", key, lambda key=key: fill(key)) == key  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(one,)) for one in (cache, other) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == {f"{round_}.{number}": 1 for number in range(40)}


def test_a_source_that_fails_is_asked_again_by_the_next(cache: Cache) -> None:
    """Its error reaches who asked, and keeps nobody waiting."""
    with pytest.raises(ZeroDivisionError):
        cache.get_or_fill("defaults", "k", lambda: 1 // 0)
    began = time.monotonic()
    assert cache.get_or_fill("defaults", "k", lambda: 3) == 3
    assert time.monotonic() - began < 5
    assert cache.get_or_fill("defaults", "k", lambda: pytest.fail("it is there")) == 3


@pytest.mark.parametrize("meanwhile", ["delete", "set", "forget"])
def test_what_was_filled_before_a_change_does_not_come_back(cache: Cache, other: Cache, meanwhile: str) -> None:
    """The source was read before the change: what it said is given to who asked, and not kept."""

    def fill() -> str:
        if meanwhile == "delete":
            other.delete("defaults", "k")
        elif meanwhile == "set":
            other.set("defaults", "k", "new")
        else:
            other.invalidate("defaults")
        return "old"

    assert cache.get_or_fill("defaults", "k", fill) == "old"
    found = [one.get("defaults", "k", "absent") for one in (cache, other)]
    assert "old" not in found[1:]
    wait_until(lambda: cache.get("defaults", "k") != "old", timeout_s=5, what="the news")


def test_a_filler_that_died_is_waited_for_only_so_long(redis_server: RedisServer) -> None:
    """Its right ends by itself."""
    cache = Cache(redis_server.url, longest_fill_s=0.2)
    redis_server.client().set(wire.cache_filler("defaults", 0, "k"), "of the dead", px=200)
    assert cache.get_or_fill("defaults", "k", lambda: 5) == 5
    assert cache.get("defaults", "k") == 5
    cache.close()


def test_hot_values_are_filled_again_before_their_end() -> None:
    """The nearer the end and the dearer the filling, the likelier; never without eagerness or a known cost."""
    entry = Entry(1, written_ms=0, fill_ms=100, ttl_ms=10_000, size_bytes=1)
    chance = random.Random(1)

    def share(now_ms: float, eagerness: float = 1.0, one: Entry = entry) -> float:
        draws = [one.is_worth_refreshing(now_ms, eagerness=eagerness, chance=1 - chance.random()) for _ in range(4000)]
        return sum(draws) / len(draws)

    # The chance that an exponential draw of mean fill_ms is longer than what is left.
    assert share(9_900) == pytest.approx(0.3679, abs=0.03)
    assert share(9_000) < 0.01 < share(9_700) < share(9_900) < share(10_000) == 1.0
    assert share(9_900, eagerness=3.0) == pytest.approx(0.7165, abs=0.03)
    assert share(9_999, eagerness=0) == share(9_999, one=replace(entry, fill_ms=0)) == 0


def test_writing_through_and_around(cache: Cache) -> None:
    """The source first; what it refuses is not kept, and what was kept is gone, for nobody knows."""
    source: dict[str, int] = {}
    assert cache.write_through("defaults", "k", 1, lambda value: source.update(k=value))
    assert (source, cache.get("defaults", "k")) == ({"k": 1}, 1)
    with pytest.raises(ZeroDivisionError):
        cache.write_through("defaults", "k", 2, lambda _: 1 // 0)  # type: ignore[arg-type]
    assert cache.get("defaults", "k") is None
    cache.set("defaults", "k", 1)
    assert cache.write_around("defaults", "k", lambda: source.update(k=3))
    assert cache.get_or_fill("defaults", "k", lambda: source["k"]) == 3


def test_counts_are_exact(redis_server: RedisServer, seed: int) -> None:
    """By family, over threads; and whoever keeps the log hears the same."""
    heard: Counter[tuple[str, str, bool]] = Counter()
    lock = threading.Lock()

    class Recorder:
        def record(self, family: str, key: str, operation: str, *, hit: bool, size_bytes: int) -> None:
            del key
            assert (size_bytes > 0) == (hit or operation == "set")
            with lock:
                heard[family, operation, hit] += 1

    cache = Cache(redis_server.url, recorder=Recorder())

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(200):
            family, key = chance.choice(("defaults", "models")), str(chance.randrange(20))
            chance.choice((lambda: cache.get(family, key), lambda: cache.set(family, key, 1)))()  # noqa: B023
            if chance.random() < 0.1:
                cache.delete(family, key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    counts = cache.counters()
    for family, one in counts.items():
        assert (one["hits"], one["misses"]) == (heard[family, "get", True], heard[family, "get", False])
        assert (one["sets"], one["deletes"]) == (heard[family, "set", False], heard[family, "delete", False])
    assert sum(one["hits"] + one["misses"] + one["sets"] for one in counts.values()) == 800


def test_while_redis_is_away_copies_answer_within_their_bound(lonely: tuple[Cache, RedisServer]) -> None:
    """No call raises; writes say that they did not arrive, and are not given either."""
    cache, server = lonely
    cache.set_many("defaults", {"kept": 1, "written": 1, "deleted": 1})
    wait_until(lambda: _copies(cache, "kept", "written", "deleted"), timeout_s=5, what="copies of all three")
    server.kill9()
    assert cache.get("defaults", "kept") == 1
    assert not cache.set("defaults", "written", 2)
    assert not cache.delete("defaults", "deleted")
    assert not cache.ping()
    assert cache.get_many("defaults", ["kept", "written", "deleted", "never"]) == {"kept": 1}
    assert cache.get_or_fill("defaults", "never", lambda: 9) == 9
    assert cache.counters()["defaults"]["errors"] > 0
    assert cache.counters()["defaults"]["local_hits"] >= 2
    cache._keeper.local._clock = lambda: time.monotonic() + 61
    assert cache.get("defaults", "kept") is None


def test_when_redis_is_back_it_hears_first_what_it_is_owed(lonely: tuple[Cache, RedisServer]) -> None:
    """What could not be deleted and written meanwhile is not read as it was before."""
    cache, server = lonely
    server.client().config_set("appendfsync", "always")
    cache.set_many("defaults", {"deleted": "old", "written": "old", "kept": "old"})
    cache.set("models", "m", "old")
    server.kill9()
    cache.delete("defaults", "deleted")
    cache.set("defaults", "written", "new")
    cache.invalidate("models")
    server.start()
    assert server.client().exists(wire.cache_entry("defaults", 0, "deleted"))
    seen: set[Any] = set()

    def has_recovered() -> bool:
        seen.update(cache.get("defaults", key) for key in ("deleted", "written"))
        seen.add(cache.get("models", "m"))
        return cache.get("defaults", "kept") == "old" and not cache._keeper.line.is_open and not cache._keeper.debts

    wait_until(has_recovered, timeout_s=10, what="the line and what was owed")
    assert seen == {None}
    assert not server.client().exists(wire.cache_entry("defaults", 0, "deleted"))


def test_a_frozen_redis_costs_a_request_little(lonely: tuple[Cache, RedisServer]) -> None:
    """The first few wait for the timeout; then nobody does but the one that tries again."""
    cache, server = lonely
    cache.set("defaults", "k", 1)
    wait_until(lambda: _copies(cache, "k"), timeout_s=5, what="a copy")
    server.sigstop()
    try:
        for _ in range(3):
            assert cache.get("defaults", "k") == 1
        fast = 0
        for _ in range(100):
            began = time.monotonic()
            assert cache.get("defaults", "k") == 1
            fast += time.monotonic() - began < 0.1
        assert fast >= 95
    finally:
        server.sigcont()
    wait_until(cache.ping, timeout_s=10, what="an answer")


def test_a_redis_that_lost_its_newest_writes_brings_nothing_back(cache: Cache, redis_server: RedisServer) -> None:
    """The number of a forgotten family never falls again."""
    cache.set("defaults", "k", "old")
    assert cache.invalidate("defaults")
    client = redis_server.client()
    client.delete(wire.CACHE_GENERATIONS)
    cache._keeper._fresh_until_s = 0.0
    assert cache.get("defaults", "k") is None
    assert client.hget(wire.CACHE_GENERATIONS, "defaults") == b"1"


def test_what_others_wrote_there_is_nothing(cache: Cache, redis_server: RedisServer) -> None:
    """Foreign text and foreign types are misses, told as errors, and can be written over."""
    client = redis_server.client()
    for content in (b"", b"x", b"1 2 3\n4", b"2 1 1 1\n1", b"1 1 1 1\n{", b"1 a b c\n1"):
        client.set(wire.cache_entry("defaults", 0, "k"), content)
        assert cache.get("defaults", "k") is None
    client.delete(wire.cache_entry("defaults", 0, "k"))
    client.lpush(wire.cache_entry("defaults", 0, "k"), "x")
    assert cache.get("defaults", "k") is None
    client.publish(wire.CACHE_EVENTS, "no event")
    client.publish(wire.CACHE_EVENTS, json.dumps({"event": "deleted", "family": 3, "keys": 4}))
    assert cache.get_or_fill("models", "k", lambda: 4) == 4


def test_the_crews_client_has_a_cache(redis_server: RedisServer) -> None:
    """Made at first use; what it was asked for reaches the log when it is closed."""
    with Nightcrew(redis_server.url) as crew:
        assert crew.cache is crew.cache
        crew.cache.set("defaults", "k", 1)
        assert crew.cache.get("defaults", "k") == 1
    assert redis_server.client().xlen(wire.ACCESS_LOG) == 1
    with pytest.raises(ClosedError):
        _ = crew.cache


def _copies(cache: Cache, *keys: str) -> bool:
    """Read until all have copies: what is said of their writing drops them once."""
    return all(cache.get("defaults", key) is not None and cache._keeper.copy_of("defaults", key) for key in keys)


def _publish(client: Redis, policy: str) -> None:
    client.set(wire.CACHE_POLICY, policy)
    client.publish(wire.CACHE_EVENTS, _events.policy_event())
