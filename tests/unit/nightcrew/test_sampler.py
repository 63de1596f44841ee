"""Every request is counted, a part is followed, and what travels is read as it was written or refused."""

from __future__ import annotations

import json
import random
import sys
import threading
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.cache._access_batch import (
    DELETE,
    HIT,
    LARGEST_HASH,
    MISS,
    MOST_BYTES,
    AccessBatch,
    FamilyAccess,
    Record,
    decode,
    encode,
)
from nightcrew.cache._sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

_SALT = b"salt" * 4
_HASHES = st.integers(0, LARGEST_HASH).map(lambda number: f"{number:016x}")
_COUNTS = st.integers(0, 2**53 - 1)
_RECORDS = st.lists(
    st.builds(
        Record,
        at_ms=st.integers(0, 10**6),
        hash=_HASHES,
        operation=st.integers(HIT, DELETE),
        size_bytes=st.integers(0, 10**9),
    ),
    max_size=20,
).map(lambda records: tuple(sorted(records, key=lambda record: record.at_ms)))
_FAMILIES = st.lists(
    st.builds(
        FamilyAccess,
        family=st.sampled_from(["defaults", "a-b", "x_1"]),
        requests=_COUNTS,
        hits=_COUNTS,
        threshold=st.integers(0, LARGEST_HASH),
        hot=st.lists(st.tuples(_HASHES, _COUNTS), max_size=5).map(tuple),
        followed=st.lists(_HASHES, max_size=5).map(tuple),
        records=_RECORDS,
    ),
    unique_by=lambda one: one.family,
    max_size=3,
).map(tuple)


@given(started_ms=st.integers(0, 2**52), lasts_ms=st.integers(0, 10**9), families=_FAMILIES)
def test_a_batch_is_read_as_it_was_written(started_ms: int, lasts_ms: int, families: tuple[FamilyAccess, ...]) -> None:
    """Whatever it holds."""
    batch = AccessBatch(started_ms=started_ms, ended_ms=started_ms + lasts_ms, families=families)
    assert decode(encode(batch)) == batch


@given(content=st.binary(max_size=200))
def test_anything_else_is_refused(content: bytes) -> None:
    """With a ValueError, and nothing worse."""
    for hostile in (content, b"\x01" + content, b"\x01" + zlib.compress(content)):
        with pytest.raises(ValueError, match=r"."):
            decode(hostile)


@pytest.mark.parametrize(
    "harm",
    [
        {"s": -1},
        {"e": 0},
        {"s": "1"},
        {"f": [[]]},
        {"f": {}},
        {"f": [{"n": "no name!", "c": [0] * 8, "t": 0, "h": [], "w": [], "k": [], "r": [[], [], [], []]}]},
        {"f": [{"n": "a", "c": [0] * 3, "t": 0, "h": [], "w": [], "k": [], "r": [[], [], [], []]}]},
        {"f": [{"n": "a", "c": [0] * 9, "t": 0, "h": [], "w": [], "k": [], "r": [[5], [0], [0], [0]]}]},
        {"f": [{"n": "a", "c": [True] * 9, "t": 0, "h": [], "w": [], "k": [], "r": [[], [], [], []]}]},
        {"f": [{"n": "a", "c": [0] * 9, "t": 0, "h": [], "w": ["x"], "k": [], "r": [[], [], [], []]}]},
    ],
)
def test_a_batch_with_one_wrong_thing_is_refused(harm: dict[str, object]) -> None:
    """Whole."""
    text = json.dumps({"s": 1, "e": 2, "f": [], **harm}).encode()
    with pytest.raises(ValueError, match=r"."):
        decode(b"\x01" + zlib.compress(text))


def test_a_bomb_is_not_unpacked() -> None:
    """Beyond its bound, however small it is."""
    with pytest.raises(ValueError, match="more than"):
        decode(b"\x01" + zlib.compress(b" " * (MOST_BYTES + 1)))


@pytest.fixture
def _restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_counts_are_exact_over_threads(seed: int) -> None:
    """Also while batches are taken, and whatever is followed."""
    sampler, taken = Sampler(_SALT, hot_keys=2, cold_keys=3), []
    asked = [_draw(seed + number) for number in range(4)]

    def work(mine: list[tuple[str, bool]]) -> None:
        for key, hit in mine:
            sampler.record("defaults", key, "get", hit=hit, size_bytes=5 if hit else 0)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in asked]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(sampler.take())
    for thread in threads:
        thread.join()
    taken.append(sampler.take())
    sums: Counter[str] = Counter()
    for batch in taken:
        for one in batch.families if batch else ():
            sums.update(hits=one.hits, misses=one.misses, bytes_read=one.bytes_read)
    hits = sum(hit for mine in asked for _, hit in mine)
    assert sums == Counter(hits=hits, misses=4 * 5_000 - hits, bytes_read=5 * hits)
    assert sampler.take() is None


def test_a_small_family_is_followed_whole() -> None:
    """Every request of it, in the order of time, with what it was."""
    now_s = [1_000.0]
    sampler = Sampler(_SALT, clock=lambda: now_s[0], hot_keys=0, cold_keys=10)
    for number in range(100):
        now_s[0] += 0.25
        sampler.record("defaults", f"k{number % 10}", "get", hit=number >= 10, size_bytes=7)
    [one] = _families(sampler)
    assert one.threshold == LARGEST_HASH
    assert [record.at_ms for record in one.records] == [250 * (number + 1) for number in range(100)]
    assert [record.operation for record in one.records] == [MISS] * 10 + [HIT] * 90
    assert len({record.hash for record in one.records}) == 10
    assert "k0" not in repr(one)


def test_the_threshold_falls_until_so_many_keys_are_below_it(seed: int) -> None:
    """And who is below it is followed always, whoever else comes and goes."""
    sampler = Sampler(_SALT, hot_keys=0, cold_keys=50)
    followed: set[str] = set()
    for batch in range(5):
        for key, hit in _draw(seed + batch, keys=2_000):
            sampler.record("defaults", key, "get", hit=hit, size_bytes=0)
        [one] = _families(sampler)
        followed = {record.hash for record in one.records}
        assert len(followed) <= 50
        assert all(int(text, 16) < one.threshold for text in followed)
    assert len(followed) >= 40
    assert one.threshold / LARGEST_HASH == pytest.approx(50 / 2_000, rel=0.6)


def test_hot_keys_are_followed_from_the_beginning_of_the_batch() -> None:
    """Their ranking rolls: yesterday's make room; those of other processes are followed too."""
    now_s = [0.0]
    sampler = Sampler(_SALT, clock=lambda: now_s[0], hot_keys=1, cold_keys=0)
    old = _hash_of(sampler, "old", 50)
    now_s[0] += 24 * 3600
    new = _hash_of(sampler, "new", 5)
    assert old != new
    sampler.set_hot("defaults", ["f" * 16])
    _hash_of(sampler, "new", 1)
    assert sampler.hot == {"defaults": ["f" * 16]}


def test_another_salt_keeps_the_counters_and_no_sample() -> None:
    """Hashes of two salts must not meet; what waits is hashed with the new one."""
    sampler = Sampler(_SALT)
    before = _hash_of(sampler, "k", 3)
    sampler.record("defaults", "k", "get", hit=True, size_bytes=1)
    sampler.set_salt(b"other" * 4)
    [one] = _families(sampler)
    assert one.hits == 1
    assert {record.hash for record in one.records} != {before}


def _hash_of(sampler: Sampler, key: str, times: int) -> str:
    for _ in range(times):
        sampler.record("defaults", key, "get", hit=True, size_bytes=0)
    [one] = _families(sampler)
    assert len(one.records) == times
    assert replace(one, records=()).hot == ((one.records[0].hash, times),)[: len(one.hot)]
    return one.records[0].hash


def _families(sampler: Sampler) -> tuple[FamilyAccess, ...]:
    batch = sampler.take()
    assert batch is not None
    return decode(encode(batch)).families


def _draw(seed: int, keys: int = 50) -> list[tuple[str, bool]]:
    chance = random.Random(seed)
    return [(f"k{chance.randrange(keys)}", chance.random() < 0.5) for _ in range(5_000)]
