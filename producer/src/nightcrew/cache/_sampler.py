"""Counts every request of the cache exactly, and follows a part of the keys request by request.

Followed are the keys that are asked for most (by a ranking that rolls: its scores halve every half-life, and the crew's
own ranking over all processes is merged in), and the keys whose salted hash lies below a threshold. The threshold falls
until at most 4,096 keys of a family lie below it (fixed-size SHARDS: Waldspurger and others, FAST 2015), so that a
family with no more keys than that is followed whole. A few hot keys make most of the requests: left to the threshold,
one of them in the sample or not would decide the result.

The hot path is one append to a list. What it holds is worked through a thousand at a time, in whichever thread finds it
full; who is followed is decided when the batch is taken, so a key that becomes hot is followed from the beginning of
the batch on. Standard library only.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nlargest, nsmallest
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from nightcrew.cache._access_batch import (
    DELETE,
    HASH_DIGITS,
    HIT,
    LARGEST_HASH,
    MISS,
    SET,
    AccessBatch,
    FamilyAccess,
    Record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nightcrew.cache._recording import Operation

HOT_KEYS: Final = 256
COLD_KEYS: Final = 4_096
_BUFFERED: Final = 1_000
_MOST_RECORDS: Final = 50_000
"""Of a family within a batch."""
_MOST_SCORED: Final = 8 * HOT_KEYS
_MOST_HASHES: Final = 50_000
_MOST_FAMILIES: Final = 64
_HALF_LIFE_S: Final = 3_600.0
_WINDOW_S: Final = 25 * 3_600.0
"""After it the threshold may rise again."""
_OPERATIONS: Final = {"set": SET, "delete": DELETE}

_Noted = tuple[int, str, int, int]
"""Milliseconds, hash, operation, size."""


@dataclass(slots=True)
class _Family:
    """What is known of one family since the last batch, and for longer."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    bytes_read: int = 0
    bytes_written: int = 0
    noted: list[_Noted] = field(default_factory=list)
    overflow: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    hot_elsewhere: tuple[str, ...] = ()
    below: set[str] = field(default_factory=set)
    threshold: int = LARGEST_HASH


class Sampler:
    """Hears of every request. Safe for threads."""

    def __init__(
        self,
        salt: bytes,
        *,
        clock: Callable[[], float] = time.time,
        hot_keys: int = HOT_KEYS,
        cold_keys: int = COLD_KEYS,
    ) -> None:
        self._salt = salt
        self._clock = clock
        self._hot_keys = hot_keys
        self._cold_keys = cold_keys
        self._buffer: list[tuple[str, str, int, int, float]] = []
        self._families: dict[str, _Family] = {}
        self._hashes: dict[str, str] = {}
        self._working = threading.Lock()
        self._started_s = self._ranked_s = self._window_s = clock()

    def record(self, family: str, key: str, operation: Operation, *, hit: bool, size_bytes: int) -> None:
        """Take note of one request."""
        code = (HIT if hit else MISS) if operation == "get" else _OPERATIONS[operation]
        buffer = self._buffer
        buffer.append((family, key, code, size_bytes, self._clock()))
        if len(buffer) >= _BUFFERED and self._working.acquire(blocking=False):
            try:
                self._work()
            finally:
                self._working.release()

    def take(self) -> AccessBatch | None:
        """Give what was noted since the last call; None for nothing."""
        with self._working:
            self._work()
            now_s = self._clock()
            started_s, self._started_s = self._started_s, now_s
            self._decay(now_s)
            families = [self._taken(name, one, started_s) for name, one in self._families.items() if any(one.counts)]
            if now_s - self._window_s > _WINDOW_S:
                self._window_s = now_s
                for one in self._families.values():
                    one.below, one.threshold = set(), LARGEST_HASH
        if not families:
            return None
        started_ms = int(started_s * 1_000)
        return AccessBatch(
            started_ms=started_ms, ended_ms=max(started_ms, int(now_s * 1_000)), families=tuple(families)
        )

    def set_hot(self, family: str, hashes: Iterable[str]) -> None:
        """Follow these keys as well: those that all processes together ask for most."""
        with self._working:
            if (one := self._family(family)) is not None:
                one.hot_elsewhere = tuple(hashes)[: self._hot_keys]

    @property
    def hot(self) -> dict[str, list[str]]:
        """By family: the keys that all processes together ask for most, as far as this one has heard."""
        with self._working:
            return {name: list(one.hot_elsewhere) for name, one in self._families.items() if one.hot_elsewhere}

    def set_salt(self, salt: bytes) -> None:
        """Hash otherwise from now on; what was noted with the old salt keeps its counters alone."""
        with self._working:  # what still waits to be worked through is hashed with the new one
            self._salt = salt
            self._hashes.clear()
            for one in self._families.values():
                one.overflow += len(one.noted)
                one.noted, one.scores, one.below = [], {}, set()
                one.hot_elsewhere, one.threshold = (), LARGEST_HASH

    def _work(self) -> None:
        """Work the buffer through. Appends go on at its end meanwhile: only what was seen is taken away."""
        count = len(self._buffer)
        waiting = self._buffer[:count]
        del self._buffer[:count]
        for family, key, code, size, at_s in waiting:
            one = self._families.get(family) or self._family(family)
            if one is None:
                continue
            one.counts[code] += 1
            if code == HIT:
                one.bytes_read += size
            elif code == SET:
                one.bytes_written += size
            if len(one.noted) < _MOST_RECORDS:
                one.noted.append((int(at_s * 1_000), self._hashes.get(key) or self._hash(key), code, size))
            else:
                one.overflow += 1

    def _family(self, name: str) -> _Family | None:
        if name not in self._families and len(self._families) >= _MOST_FAMILIES:
            return None  # no policy has so many
        return self._families.setdefault(name, _Family())

    def _hash(self, key: str) -> str:
        if len(self._hashes) >= _MOST_HASHES:
            self._hashes.clear()
        text = blake2b(key.encode(errors="surrogatepass"), digest_size=HASH_DIGITS // 2, key=self._salt).hexdigest()
        self._hashes[key] = text
        return text

    def _decay(self, now_s: float) -> None:
        passed_s, self._ranked_s = max(0.0, now_s - self._ranked_s), now_s
        factor = 0.5 ** (passed_s / _HALF_LIFE_S)
        for one in self._families.values():
            for text in one.scores:
                one.scores[text] *= factor

    def _taken(self, name: str, one: _Family, started_s: float) -> FamilyAccess:
        asked = _asked(one.noted)
        followed = self._rank(one, asked)
        self._lower(one, asked)
        started_ms = int(started_s * 1_000)
        below = one.below
        records = [
            Record(at_ms=max(0, at_ms - started_ms), hash=text, operation=code, size_bytes=size)
            for at_ms, text, code, size in sorted(one.noted, key=itemgetter(0))
            if text in below or text in followed
        ]
        hits, misses, sets, deletes = one.counts
        taken = FamilyAccess(
            family=name,
            requests=hits + misses,
            hits=hits,
            misses=misses,
            sets=sets,
            deletes=deletes,
            bytes_read=one.bytes_read,
            bytes_written=one.bytes_written,
            threshold=one.threshold,
            unfollowed=one.overflow,
            hot=tuple(nlargest(self._hot_keys, asked.items(), key=itemgetter(1))),
            followed=tuple(sorted(followed)),
            records=tuple(records),
        )
        one.counts, one.bytes_read, one.bytes_written, one.noted, one.overflow = [0, 0, 0, 0], 0, 0, [], 0
        return taken

    def _rank(self, one: _Family, asked: dict[str, int]) -> frozenset[str]:
        """Bring the ranking up to date; give the keys that are followed because they are hot."""
        for text, count in asked.items():
            one.scores[text] = one.scores.get(text, 0.0) + count
        if len(one.scores) > _MOST_SCORED:
            one.scores = dict(nlargest(_MOST_SCORED // 2, one.scores.items(), key=itemgetter(1)))
        own = nlargest(self._hot_keys, one.scores.items(), key=itemgetter(1))
        return frozenset(one.hot_elsewhere) | {text for text, _ in own}

    def _lower(self, one: _Family, asked: dict[str, int]) -> None:
        """Follow new keys below the threshold, and lower it where these have become too many."""
        one.below.update(text for text in asked if int(text, 16) < one.threshold)
        if len(one.below) > self._cold_keys:
            *kept, first_out = nsmallest(self._cold_keys + 1, one.below)
            one.below, one.threshold = set(kept), int(first_out, 16)


def _asked(noted: list[_Noted]) -> dict[str, int]:
    asked: dict[str, int] = {}
    for _, text, code, _ in noted:
        if code in {HIT, MISS}:
            asked[text] = asked.get(text, 0) + 1
        else:
            asked.setdefault(text, 0)
    return asked
