"""What a process keeps for itself while Redis is away, and what it still owes Redis.

A copy is given only while Redis does not answer, for no longer than its family's `local_s` after it was read or written
there, and never beyond its own end. Both are measured by a clock that nobody sets.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

COPIES: Final = 10_000
MOST_OWED: Final = 10_000

_Place = tuple[str, str]
"""Family and key."""


class LocalCopies:
    """Bounded copies of what was last seen in Redis; the least recently seen go first. Safe for threads."""

    def __init__(self, *, most: int = COPIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._copies: LRUCache[_Place, tuple[float, bytes]] = LRUCache(maxsize=most)

    def keep(self, place: _Place, content: bytes, *, seconds: float) -> None:
        """Keep a copy for so long."""
        with self._lock:
            self._copies[place] = (self._clock() + seconds, content)

    def get(self, place: _Place) -> bytes | None:
        """Give a copy that may still be given."""
        with self._lock:
            found = self._copies.get(place)
            if found is None:
                return None
            if found[0] <= self._clock():
                del self._copies[place]
                return None
            return found[1]

    def drop(self, place: _Place) -> None:
        """Forget one."""
        with self._lock:
            self._copies.pop(place, None)

    def drop_family(self, family: str) -> None:
        """Forget those of a family."""
        with self._lock:
            for place in [place for place in self._copies if place[0] == family]:
                del self._copies[place]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._copies.clear()


class Debts:
    """Deletions that Redis has not heard of. What is owed is not read: it may be what was to be deleted."""

    def __init__(self, *, most: int = MOST_OWED) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._keys: set[_Place] = set()
        self._families: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._keys or self._families)

    def owe(self, place: _Place) -> None:
        """Remember a deletion; beyond the bound the whole family is owed instead."""
        with self._lock:
            self._keys.add(place)
            if len(self._keys) > self._most:
                self._families.update(family for family, _ in self._keys)
                self._keys.clear()

    def owe_family(self, family: str) -> None:
        """Remember that a family is to be forgotten."""
        with self._lock:
            self._families.add(family)

    def covers(self, place: _Place) -> bool:
        """Tell whether what Redis has of a key may be what was to be deleted."""
        return place in self._keys or place[0] in self._families

    def all(self) -> tuple[set[_Place], set[str]]:
        """Give what is owed now: keys, and whole families."""
        with self._lock:
            return set(self._keys), set(self._families)

    def settle(self, keys: set[_Place], families: set[str]) -> None:
        """Forget what Redis has heard of."""
        with self._lock:
            self._keys -= keys
            self._families -= families


class Counters:
    """Exact counts by family: each thread has its own, because adding up is not one step in Python."""

    NAMES: Final = ("hits", "misses", "sets", "deletes", "bytes_read", "bytes_written", "fills", "local_hits", "errors")

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[dict[str, dict[str, int]]] = []
        self._lock = threading.Lock()

    def of(self, family: str) -> dict[str, int]:
        """Give this thread's counters of a family, to add to."""
        own: dict[str, dict[str, int]] | None = getattr(self._own, "families", None)
        if own is None:
            own = self._own.families = {}
            with self._lock:
                self._all.append(own)
        counts = own.get(family)
        if counts is None:
            counts = own[family] = dict.fromkeys(self.NAMES, 0)
        return counts

    def sums(self) -> dict[str, dict[str, int]]:
        """Add all threads up."""
        sums: dict[str, dict[str, int]] = {}
        with self._lock:
            every: list[Any] = list(self._all)
        for own in every:
            for family, counts in list(own.items()):
                total = sums.setdefault(family, dict.fromkeys(self.NAMES, 0))
                for name in self.NAMES:
                    total[name] += counts[name]
        return sums
