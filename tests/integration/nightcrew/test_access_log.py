"""The access log in a real Redis: each entry once, one salt, bounded, and nothing goes unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from nightcrew import wire
from nightcrew.cache._access_log import AccessLog, Shipment
from nightcrew.signing import Guard, Signer, SigningKey

if TYPE_CHECKING:
    from tests.support.redis import RedisServer

SALT = "00" * 16
OTHER_SALT = "11" * 16


@pytest.fixture
def log(redis_server: RedisServer) -> AccessLog:
    return AccessLog(redis_server.client())


def shipment(seq: int, *, body: bytes = b"body", producer: str = "p", asked: dict[str, int] | None = None) -> Shipment:
    """Make a shipment of ten operations."""
    ranked = {"defaults": list((asked or {}).items())}
    return Shipment(producer=producer, seq=seq, body=body, told={"defaults": 10}, asked=ranked)


def entries(server: RedisServer) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = server.client().xrange(wire.ACCESS_LOG)
    return list(found)


def totals(server: RedisServer) -> dict[bytes, bytes]:
    found: Any = server.client().hgetall(wire.ACCESS_TOTALS)
    return dict(found)


def set_bounds(server: RedisServer, **bounds: int) -> None:
    server.client().hset(wire.ACCESS_META, mapping={name: str(value) for name, value in bounds.items()})


def test_what_is_sent_again_is_there_once(log: AccessLog, redis_server: RedisServer) -> None:
    """A repeated shipment is neither logged nor added up again, also behind a later one."""
    verdicts = [log.append(shipment(seq), SALT).verdict for seq in (1, 1, 2, 1)]
    assert verdicts == ["ok", "duplicate", "ok", "duplicate"]
    assert [told[b"s"] for _, told in entries(redis_server)] == [b"1", b"2"]
    assert totals(redis_server)[b"logged:defaults"] == b"20"


def test_one_salt_for_all(log: AccessLog, redis_server: RedisServer) -> None:
    """The first process chooses it; an entry hashed with another is refused, and nothing of it is written."""
    assert log.ask(SALT).salt == SALT
    assert log.ask(OTHER_SALT).salt == SALT
    answer = log.append(shipment(1), OTHER_SALT)
    assert (answer.verdict, answer.salt) == ("salt", SALT)
    assert entries(redis_server) == []
    assert log.append(shipment(1), SALT).verdict == "ok"


def test_a_wiped_log_gets_the_salt_back(log: AccessLog, redis_server: RedisServer) -> None:
    """The processes that are left know it: what they have hashed so far stays comparable."""
    log.append(shipment(1), SALT)
    redis_server.flush()
    assert log.append(shipment(2), SALT).verdict == "ok"
    assert log.ask(OTHER_SALT).salt == SALT


def test_all_processes_rank_together(log: AccessLog) -> None:
    """What two processes ask for is added up; the hottest come first, 256 at most."""
    log.append(shipment(1, asked={"a": 5, "b": 4}), SALT)
    answer = log.append(shipment(1, producer="q", asked={"b": 4, "c": 1}), SALT)
    assert answer.hot == {"defaults": ["b", "a", "c"]}
    many = {f"{number:04}": number for number in range(1, 1_500)}
    answer = log.append(shipment(2, asked=many), SALT)
    assert answer.hot["defaults"][:2] == ["1499", "1498"]
    assert len(answer.hot["defaults"]) == 256
    assert log.ask(SALT, ["defaults", "models"]).hot["models"] == []


def test_a_ranking_is_bounded_and_fades(log: AccessLog, redis_server: RedisServer) -> None:
    """Yesterday's favourites do not stay on top of today's."""
    log.append(shipment(1, asked={"old": 1_000, **{f"{number:04}": 1 for number in range(1, 1_500)}}), SALT)
    client = redis_server.client()
    assert client.zcard(wire.access_hot("defaults")) == 1024
    minute: Any = client.hget(wire.ACCESS_TOTALS, "faded:defaults")
    client.hset(wire.ACCESS_TOTALS, "faded:defaults", str(int(minute) - 300))
    answer = log.append(shipment(2, asked={"new": 2}), SALT)
    assert answer.hot["defaults"][0] == "new"
    assert client.zscore(wire.access_hot("defaults"), "old") == pytest.approx(1000 / 2**10, rel=0.01)


def test_the_log_is_bounded_in_bytes(log: AccessLog, redis_server: RedisServer) -> None:
    """The newest entries stay, the older ones go; what it was told of is still known."""
    set_bounds(redis_server, cap_bytes=20_000)
    for seq in range(1, 41):
        log.append(shipment(seq, body=b"x" * 1_000), SALT)
        kept = sum(len(told[b"d"]) + 256 for _, told in entries(redis_server))
        assert kept <= 20_000
        assert kept == int(totals(redis_server)[b"bytes"])
    assert entries(redis_server)[-1][1][b"s"] == b"40"
    assert totals(redis_server)[b"logged:defaults"] == b"400"


def test_whole_minutes_go_oldest_first(log: AccessLog, redis_server: RedisServer) -> None:
    """By size as far as needed, by age as far as told: what is newer stays."""
    set_bounds(redis_server, cap_bytes=20_000, keep_ms=3_600_000)
    client = redis_server.client()
    log.append(shipment(1), SALT)
    now_ms = int(entries(redis_server)[0][0].partition(b"-")[0])
    client.delete(wire.ACCESS_LOG, wire.ACCESS_TOTALS)
    for age_minutes in (90, 50, 40, 30):
        at_ms = now_ms - age_minutes * 60_000
        client.xadd(wire.ACCESS_LOG, {"age": str(age_minutes)}, id=f"{at_ms}-0")
        client.hincrby(wire.ACCESS_TOTALS, str(at_ms // 60_000), 3_000)
        client.hincrby(wire.ACCESS_TOTALS, "bytes", 3_000)
    log.append(shipment(2), SALT)
    assert [told.get(b"age") for _, told in entries(redis_server)] == [b"50", b"40", b"30", None]
    set_bounds(redis_server, cap_bytes=10_000)
    log.append(shipment(3, body=b"x" * 2_000), SALT)
    assert [told.get(b"age") for _, told in entries(redis_server)] == [b"40", b"30", None, None]


def test_a_signature_stands_on_the_entry(redis_server: RedisServer) -> None:
    """The crew can tell that an app with a key wrote it, and to this log."""
    key = SigningKey.generate("k")
    AccessLog(redis_server.client(), signer=Signer([key])).append(shipment(1), SALT)
    [(_, told)] = entries(redis_server)
    Guard([key], requires=True).check_entry(wire.ACCESS_LOG, told)
    with pytest.raises(ValueError, match="signature"):
        Guard([key], requires=True).check_entry(wire.ACCESS_LOG, {**told, b"d": b"other"})


def test_a_log_that_is_none_is_refused(log: AccessLog, redis_server: RedisServer) -> None:
    """Nothing is half written where somebody has put something else in its place."""
    redis_server.client().set(wire.ACCESS_LOG, "x")
    with pytest.raises(ResponseError, match="instead of the access log"):
        log.append(shipment(1), SALT)
    assert totals(redis_server) == {}
