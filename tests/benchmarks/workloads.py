"""What is counted: the same keys for everyone who is measured."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ZIPF_KEYS: Final = 10_000
_SEED: Final = 2026


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Keys in the order in which they are counted, and what must come out."""

    keys: tuple[str, ...]  # a tuple of texts is left alone by the garbage collector, a list of millions is walked
    expected: Counter[str]

    def chunks(self, size: int) -> Iterator[tuple[str, ...]]:
        """Cut the keys into calls."""
        for first in range(0, len(self.keys), size):
            yield self.keys[first : first + size]


def zipf(count: int) -> Workload:
    """Give uses of 10,000 keys, the n-th of which is used 1/n as often as the first."""
    pool = [f"mail.greeting.{number}" for number in range(ZIPF_KEYS)]
    weights = list(accumulate(1 / rank for rank in range(1, ZIPF_KEYS + 1)))
    keys = tuple(random.Random(_SEED).choices(pool, cum_weights=weights, k=count))
    return Workload(keys=keys, expected=Counter(keys))


def all_different(count: int) -> Workload:
    """Give uses of keys that never repeat, neighbours next to one another: kind to a B-tree, hence to the floor."""
    keys = tuple(f"mail.greeting.{number:07}" for number in range(count))
    return Workload(keys=keys, expected=Counter(keys))


def shuffled(workload: Workload) -> Workload:
    """Give the same uses in random order, as ids of users or carts come in."""
    return Workload(
        keys=tuple(random.Random(_SEED).sample(workload.keys, len(workload.keys))), expected=workload.expected
    )
