"""Whatever comes over the wire: it is kept as a dead letter, what is good is counted, and nobody dies of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from nightcrew import wire
from nightcrew._redis import connect
from nightcrew.messages import DrainUsage, RunCanary
from tasks.ledger.tables import DeadLetter
from tasks.transactions import begin_read
from tasks.usage.store import UsageQueries
from tests.acceptance.commands import ask
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.acceptance.conftest import RunningCrew

Fields = dict[bytes, bytes]
Entries = list[Fields]

_FUZZED = 10_000
_AT_ONCE = 50
_STREAM = wire.usage_stream(0)
_PATIENCE_S = 90.0

_HOUR = 490_000
_TOO_LATE_HOUR = 10**7
_GOOD: Fields = {b"v": b"1", b"op": b"add", b"p": b"f" * 32, b"s": b"1", b"d": b'[[490000,"","n",{"key":1}]]'}


def _body(hour: Any, counts: Any) -> bytes:
    return json.dumps([[hour, "", "n", counts]]).encode()


_BAD_COUNTS: dict[str, Any] = {
    "negative": {"key": -1},
    "zero": {"key": 0},
    "huge": {"key": 2**63},
    "beyond JSON": {"key": 2**53},
    "fraction": {"key": 1.5},
    "text": {"key": "1"},
    "truth": {"key": True},
    "nothing": {},
    "empty key": {"": 1},
    "10 kB key": {"k" * 10_000: 1},
    "NUL": {"a\0b": 1},
    "lone surrogate": {"\ud800": 1},
}
_BAD_HOURS = (-1, 0, _TOO_LATE_HOUR, 2**70, 1.5, "490000", None)
BAD_ENTRIES: dict[str, Fields] = {
    **{f"amounts: {name}": {**_GOOD, b"d": _body(_HOUR, counts)} for name, counts in _BAD_COUNTS.items()},
    **{f"hour: {hour}": {**_GOOD, b"d": _body(hour, {"key": 1})} for hour in _BAD_HOURS},
    "not UTF-8": {**_GOOD, b"d": b'[[490000,"","n",{"\xff\xfe":1}]]'},
    "not JSON": {**_GOOD, b"d": b"[[490000"},
    "deep JSON": {**_GOOD, b"d": b"[" * 100_000},
    "other version": {**_GOOD, b"v": b"2"},
    "no sequence": {**_GOOD, b"s": b"one"},
    "no producer": {**_GOOD, b"p": b""},
    "other operation": {**_GOOD, b"op": b"drop"},
    "reset of a number": {**_GOOD, b"op": b"reset", b"d": b'{"key":1,"context":null}'},
    "nothing known": {b"x": b"y"},
}

BAD_MESSAGES = {
    "no JSON": b"\xff\xfe garbage",
    "a number": b"17",
    "an empty object": b"{}",
    "no headers": json.dumps({"body": "e30=", "content-type": "application/json"}).encode(),
    "half of a message": json.dumps(
        {"headers": {"task": RunCanary.kind}, "properties": {"delivery_tag": "x"}}
    ).encode(),
}


@pytest.fixture
def redis(crew: RunningCrew) -> Iterator[Redis]:
    with connect(crew.process.wait_ready().broker_url, timeout_s=10) as client:
        yield client


def test_bad_entries_of_the_log_become_dead_letters(crew: RunningCrew, redis: Redis) -> None:
    """Each is listed with its reason; what an app counts before, between and after them is counted."""
    family = everyone(crew)
    for fields in BAD_ENTRIES.values():
        redis.xadd(_STREAM, cast("Any", fields))
        count_one(crew)
    wait_until_drained(crew, redis)
    assert total(crew) == len(BAD_ENTRIES)
    letters = ask("jobs", "dead", "--limit", "1000", data_dir=crew.directory)["dead_letters"]
    assert len(letters) == len(BAD_ENTRIES)
    assert all(letter["source"] == _STREAM and letter["reason"] for letter in letters)
    assert everyone(crew) == family


def test_bad_messages_of_the_queues_become_dead_letters(crew: RunningCrew, redis: Redis) -> None:
    """Whatever is pushed onto a queue; the next job and the next count go through."""
    family, known = everyone(crew), letter_count(crew)
    for queue in (DrainUsage.queue, RunCanary.queue):
        redis.lpush(queue, *BAD_MESSAGES.values())
    job = crew.app.enqueue(RunCanary(note="after them"))
    assert job.result(timeout_s=60) == {"note": "after them"}
    count_one(crew)
    wait_until_drained(crew, redis)
    letters = ask("jobs", "dead", "--limit", "1000", data_dir=crew.directory)["dead_letters"]
    assert len(letters) == known + 2 * len(BAD_MESSAGES)
    sources = [letter["source"] for letter in letters]
    assert [sources.count(queue) for queue in (DrainUsage.queue, RunCanary.queue)] == [len(BAD_MESSAGES)] * 2
    assert everyone(crew) == family


def test_ten_thousand_fuzzed_entries_stop_nobody(crew: RunningCrew, redis: Redis, seed: int) -> None:
    """None of them can be read: each is a dead letter, and the good ones in between are counted."""
    family, known, counted = everyone(crew), letter_count(crew), total(crew)
    entries = drawn(fuzzed_entries(), seed=seed)
    for first in range(0, len(entries), 1_000):
        with redis.pipeline(transaction=False) as pipe:
            for fields in entries[first : first + 1_000]:
                pipe.xadd(_STREAM, cast("Any", fields))
            pipe.execute()
        count_one(crew)
    wait_until_drained(crew, redis)
    assert letter_count(crew) == known + len(entries)
    assert total(crew) == counted + len(entries) // 1_000
    assert everyone(crew) == family


def fuzzed_entries() -> st.SearchStrategy[Entries]:
    """Give entries of which none is right: noise, and good ones in which one field is noise."""
    noise = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), min_size=1, max_size=5).filter(
        lambda fields: fields.get(b"v") != b"1"
    )
    texts = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
    numbers = st.one_of(st.integers(max_value=0), st.integers(min_value=2**53), st.floats(), st.booleans(), st.none())
    amounts = numbers.map(lambda amount: _body(_HOUR, {"key": amount}))
    hours = numbers.map(lambda hour: _body(hour, {"key": 1}))
    spoilt = st.one_of(
        texts.filter(lambda value: value != b"1").map(lambda value: {**_GOOD, b"v": value}),
        texts.filter(lambda value: value not in {b"add", b"reset"}).map(lambda value: {**_GOOD, b"op": value}),
        texts.filter(lambda value: not value.isdigit()).map(lambda value: {**_GOOD, b"s": value}),
        texts.map(lambda value: {**_GOOD, b"d": b"[" + value}),
        amounts.map(lambda body: {**_GOOD, b"d": body}),
        hours.map(lambda body: {**_GOOD, b"d": body}),
    )
    return st.lists(st.one_of(noise, spoilt), min_size=_AT_ONCE, max_size=_AT_ONCE)


def drawn(strategy: st.SearchStrategy[Entries], *, seed: int) -> Entries:
    """Draw `_FUZZED` entries; the same for the same seed."""
    entries: Entries = []

    @seeded(seed)
    @settings(
        max_examples=_FUZZED // _AT_ONCE,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(some: Entries) -> None:
        entries.extend(some)

    draw()
    assert len(entries) >= _FUZZED
    return entries[:_FUZZED]


def count_one(crew: RunningCrew) -> None:
    crew.app.usage.increment("app.key")
    crew.app.usage.flush(timeout_s=_PATIENCE_S)


def total(crew: RunningCrew) -> int:
    return UsageQueries(crew.engine).sums().total


def letter_count(crew: RunningCrew) -> int:
    with begin_read(crew.engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(DeadLetter)).scalar_one()


def everyone(crew: RunningCrew) -> dict[str, set[int]]:
    """Give the processes of the crew, and those that they have started."""
    children = crew.process.wait_ready().children
    return {name: {pid, *(one.pid for one in psutil.Process(pid).children())} for name, pid in children.items()}


def wait_until_drained(crew: RunningCrew, redis: Redis) -> None:
    def is_drained() -> bool:
        info: Any = redis.xinfo_stream(_STREAM)
        position = UsageQueries(crew.engine).positions().get(0)
        return position is not None and position.last_id == info["last-generated-id"].decode()

    wait_until(is_drained, timeout_s=_PATIENCE_S, what="the end of the drain", interval_s=0.05)
