"""A scan of a real server: what it finds is there, and what it does to the server is what it says."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tasks.errors import PermanentError, TransientError
from tasks.ttl.prefixes import Prefixes, family_prefixes
from tasks.ttl.scan_sample import Sample
from tasks.ttl.scanning import ScanOptions
from tasks.ttl.store.scan import scan_cache
from tasks.ttl.store.scan_connection import CLIENT_NAME, scan_connection
from tasks.ttl.store.scan_pages import PipelinedPages, Wanted
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from redis import Redis

    from tests.support.redis import RedisServer

PREFIXES = family_prefixes(["a", "b"], {"session:": "sessions", "session:admin:": "admins"})
QUICK = ScanOptions(baseline_pings=10, duty=0.1)
PIPELINED = ScanOptions(baseline_pings=10, duty=0.1, use_script=False)

# Idle for 1,000 s, as a copy from another server can be; families of 60, 30 and 10 %.
FILL = """
for at = 1, tonumber(ARGV[1]) do
  local family = at % 10 < 6 and 'nightcrew:cache:a:0:' or at % 10 < 9 and 'nightcrew:cache:b:0:' or 'session:'
  redis.call('SET', family .. at, string.rep('v', at % 97))
  local packed = redis.call('DUMP', family .. at)
  local ttl = at % 4 == 0 and 0 or 600000
  redis.call('RESTORE', family .. at, ttl, packed, 'REPLACE', 'IDLETIME', '1000')
end
"""


def fill(redis: Redis, keys: int = 1_000) -> None:
    redis.eval(FILL, 0, keys)


def sizes(redis: Redis) -> int:
    return sum(int(redis.memory_usage(key, samples=0) or 0) for key in redis.scan_iter())


@pytest.mark.parametrize("options", [QUICK, PIPELINED], ids=["script", "pipeline"])
def test_a_small_cache_is_counted_and_not_estimated(redis_server: RedisServer, options: ScanOptions) -> None:
    """To the key and to the byte, whichever way it is read; the longest prefix wins, and idle times are kept."""
    redis = redis_server.client()
    fill(redis)
    redis.set("session:admin:1", "v")
    redis.set("elsewhere", "v")
    scan = scan_cache(redis, PREFIXES, options)
    assert (scan.ended, scan.is_complete, scan.sampled, scan.notes) == ("complete", True, 1_002, [])
    assert scan.how == ("script" if options.use_script else "pipeline")
    assert {one.family: (one.keys.low, one.keys.value, one.keys.high) for one in scan.families} == {
        "a": (600, 600, 600),
        "admins": (1, 1, 1),
        "b": (300, 300, 300),
        "other": (1, 1, 1),
        "sessions": (100, 100, 100),
    }
    assert sum(one.size_bytes.value for one in scan.families if one.size_bytes) == sizes(redis)
    found = scan.family("a")
    assert found.without_ttl is not None
    assert found.without_ttl.value == pytest.approx(1 / 6, abs=0.2)
    assert found.ttl_left_s is not None
    assert 500 < found.ttl_left_s.p50 <= 600
    for scanned in (scan, scan_cache(redis, PREFIXES, options)):
        idle = scanned.family("a").idle_s
        assert idle is not None
        assert idle.p10 >= 1_000
    assert scan.to_json()["families"]["b"]["keys"] == {"value": 300, "low": 300, "high": 300}


@pytest.mark.parametrize("options", [QUICK, PIPELINED], ids=["script", "pipeline"])
def test_own_lookups_are_told_apart_from_those_of_apps(redis_server: RedisServer, options: ScanOptions) -> None:
    """To the last one, while an app asks for keys that are there and for keys that are not."""
    redis, app = redis_server.client(), redis_server.client()
    fill(redis)
    over, asked = threading.Event(), [0]

    def ask() -> None:
        while not over.is_set():
            app.get("session:9")
            app.get("nowhere")
            app.get("nowhere either")
            asked[0] += 1

    before: Any = redis.info("stats")
    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: asked[0] > 10, timeout_s=10, what="the app")
    scan = scan_cache(redis, PREFIXES, options)
    over.set()
    thread.join()
    after: Any = redis.info("stats")
    mark = scan.footprints[0]
    assert mark.hits_added == 2_000
    assert mark.misses_added == 0
    assert after["keyspace_hits"] - before["keyspace_hits"] == mark.hits_added + asked[0]
    assert mark.others_hits is not None
    assert mark.others_misses is not None
    assert 0 < mark.others_hits <= asked[0]
    assert abs(mark.others_misses - 2 * mark.others_hits) <= 2
    assert mark.server_ms is not None
    assert 0 < mark.server_ms < mark.seconds * 1_000
    assert (mark.keys_touched, mark.commands["pttl"], mark.commands["memory|usage"]) == (1_000, 1_000, 1_000)
    assert not {"get", "set", "del", "keys", "monitor", "type", "config|set"} & mark.commands.keys()


def test_a_part_tells_of_the_whole(redis_server: RedisServer) -> None:
    """From 2,000 of 20,000 keys; twice the interval leaves no room for chance."""
    redis = redis_server.client()
    fill(redis, 20_000)
    scan = scan_cache(redis, PREFIXES, ScanOptions(baseline_pings=10, duty=0.1, budget_keys=2_000, target=0.0))
    assert scan.ended == "keys"
    assert 2_000 <= scan.sampled < 2_100
    for family, there in (("a", 12_000), ("b", 6_000), ("sessions", 2_000)):
        keys = scan.family(family).keys
        assert abs(keys.value - there) < 2 * keys.half_width * keys.value
        assert 0 < keys.half_width < 0.3
    wide = scan_cache(redis, PREFIXES, ScanOptions(baseline_pings=10, duty=0.1, target=0.5))
    assert (wide.ended, wide.sampled < 3_000) == ("target", True)


def test_an_empty_database_has_nothing(redis_server: RedisServer) -> None:
    """And was seen whole."""
    scan = scan_cache(redis_server.client(), PREFIXES, QUICK)
    assert (scan.ended, scan.sampled, scan.keys.high) == ("complete", 0, 0)
    assert {one.keys.high for one in scan.families} == {0}


def test_other_databases_and_decoding_clients(redis_server: RedisServer) -> None:
    """The scan is of the database of the client; that the client decodes changes nothing, not even for odd keys."""
    redis_server.client().set("session:elsewhere", "v")
    redis = redis_server.client(db=3, decode_responses=True)
    redis.flushdb()
    redis.set(b"session:\xff\xfe", "v")
    scan = scan_cache(redis, PREFIXES, QUICK)
    assert (scan.sampled, scan.family("sessions").keys.value) == (1, 1)


def test_nothing_of_it_stays(redis_server: RedisServer) -> None:
    """While it runs it is seen under its name; what its listener raises ends it, and its connection is closed."""
    redis = redis_server.client()
    fill(redis)

    def names() -> list[str]:
        return [one["name"] for one in redis.client_list()]

    def stop(_share: float, _text: str) -> None:
        assert CLIENT_NAME in names()
        raise InterruptedError

    with pytest.raises(InterruptedError):
        scan_cache(redis, PREFIXES, ScanOptions(baseline_pings=10, budget_keys=2_000, duty=0.01), tick=stop)
    wait_until(lambda: CLIENT_NAME not in names(), timeout_s=5, what="the end of the connection")


def test_keys_that_vanish_on_the_way_are_none(redis_server: RedisServer) -> None:
    """Between SCAN and the look at them: they count as misses that the scan has added, and not as keys."""
    redis = redis_server.client()
    fill(redis, 100)
    with scan_connection(redis) as connection:
        ask_many = connection.ask_many

        def ask_and_delete(commands: Any) -> Any:
            answers = ask_many(commands)
            if commands[0][0] == "SCAN":
                redis.delete(*answers[0][1][:40])
            return answers

        connection.ask_many = ask_and_delete  # type: ignore[method-assign]
        page = PipelinedPages(connection, Wanted()).read(b"0", 1_000)
    sample = Sample(Prefixes(PREFIXES))
    sample.take_page(page.facts, asked=1_000, given=page.given, is_last=page.is_last)
    assert (page.given, sample.keys, page.hits, page.misses) == (100, 60, 120, 80)
    stats: Any = redis.info("stats")
    assert stats["keyspace_misses"] >= 80


@pytest.mark.parametrize(
    ("rights", "how"),
    [
        ("+scan +pttl +object|idletime +memory|usage +info +ping", "pipeline"),
        ("+scan +pttl +object|idletime +memory|usage +info +ping +evalsha_ro +script|load +client|setname", "script"),
        ("+scan +pttl +object|idletime +memory|usage +info +ping +eval_ro", "script"),
    ],
)
def test_few_rights_are_enough(tcp_redis_server: RedisServer, rights: str, how: str) -> None:
    """Without scripts it goes by pipelines, and finds the same."""
    fill(tcp_redis_server.client())
    tcp_redis_server.client().execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "scan", "on", ">secret", "%R~*", "-@all", *rights.split()
    )
    scan = scan_cache(tcp_redis_server.client(username="scan", password="secret"), PREFIXES, QUICK)
    assert (scan.how, scan.ended, scan.family("b").keys.value) == (how, "complete", 300)
    assert scan.family("b").size_bytes is not None


def test_sizes_that_are_barred_are_unknown(tcp_redis_server: RedisServer) -> None:
    """By script or by pipeline, keys and times to live are found all the same; without SCAN nothing is."""
    admin = tcp_redis_server.client()
    fill(admin)
    rights = "%R~* -@all +scan +pttl +info +ping"
    for more in ("", " +eval_ro"):
        admin.execute_command("ACL", "SETUSER", "scan", "on", ">secret", *(rights + more).split())  # type: ignore[no-untyped-call]
        scan = scan_cache(tcp_redis_server.client(username="scan", password="secret"), PREFIXES, QUICK)
        found = scan.family("a")
        assert (found.keys.value, found.size_bytes, found.idle_s) == (600, None, None)
        assert scan.footprints[0].hits_added == 1_000
        assert "MEMORY USAGE" in scan.notes[0]
    admin.execute_command("ACL", "SETUSER", "scan", "-scan")  # type: ignore[no-untyped-call]
    with pytest.raises(PermanentError, match="may not do what a scan needs"):
        scan_cache(tcp_redis_server.client(username="scan", password="secret"), PREFIXES, QUICK)


def test_a_server_that_ends_meanwhile_is_a_passing_error(own_redis_server: RedisServer) -> None:
    """One that was restarted is as well: its counters are others."""
    redis = own_redis_server.client()
    fill(redis)
    with pytest.raises(TransientError):
        scan_cache(redis, PREFIXES, QUICK, tick=lambda _share, _text: own_redis_server.kill9())
    with pytest.raises(TransientError):
        scan_cache(redis, PREFIXES, QUICK)
