"""Puts the batches of the access log together: by family, the requests that were followed, as arrays of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nightcrew.cache._access_batch import DELETE, HIT, LARGEST_HASH, SET
from tasks.ttl.traces import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from nightcrew.cache._access_batch import AccessBatch, FamilyAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What the access log tells of one family; arrays of requests have one length, in the order of time."""

    family: str
    requests: int
    """All of them, counted exactly, whether followed or not."""
    hits: int
    unfollowed: int
    """Operations of which nothing but the number is known though they should have been followed."""
    threshold: int
    """Keys with smaller hashes were followed by everyone all the time; the largest hash: all of them were."""
    at_ms: NDArray[np.int64]
    hash: NDArray[np.uint64]
    operation: NDArray[np.int8]
    was_hit: NDArray[np.bool_]
    """Whether the cache had an answer, with the time to live of that day."""
    size_bytes: NDArray[np.int64]
    batch: NDArray[np.int64]
    """Number of the batch that told of the request."""
    starts_ms: NDArray[np.int64]
    """Of each batch."""
    ends_ms: NDArray[np.int64]
    hot_batch: NDArray[np.int64]
    """Of each pair of a batch and a key that it followed for being hot."""
    hot_hash: NDArray[np.uint64]


@dataclass(slots=True)
class _Gathering:
    """What is known of a family so far."""

    requests: int = 0
    hits: int = 0
    unfollowed: int = 0
    threshold: int = LARGEST_HASH
    parts: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = field(default_factory=list)
    starts_ms: list[int] = field(default_factory=list)
    ends_ms: list[int] = field(default_factory=list)
    hot: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, batch: AccessBatch, access: FamilyAccess) -> None:
        self.requests += access.requests + access.dropped
        self.hits += access.hits
        self.unfollowed += access.unfollowed + access.dropped
        self.threshold = min(self.threshold, access.threshold)
        numbers = np.empty((len(access.records), 4), dtype=np.int64)
        numbers[:, 3] = len(self.starts_ms)
        for place, record in enumerate(access.records):
            numbers[place, :3] = batch.started_ms + record.at_ms, record.operation, record.size_bytes
        hashes = np.array([int(record.hash, 16) for record in access.records], dtype=np.uint64)
        self.parts.append((numbers, hashes))
        self.starts_ms.append(batch.started_ms)
        self.ends_ms.append(batch.ended_ms)
        self.hot.append(np.array([int(text, 16) for text in access.followed], dtype=np.uint64))

    def followed(self, family: str) -> Followed:
        numbers = np.concatenate([part for part, _ in self.parts])
        hashes = np.concatenate([part for _, part in self.parts])
        order = np.argsort(numbers[:, 0], kind="stable")
        numbers, hashes = numbers[order], hashes[order]
        operation = np.full(len(numbers), Operation.GET, dtype=np.int8)
        operation[numbers[:, 1] == SET] = Operation.SET
        operation[numbers[:, 1] == DELETE] = Operation.DELETE
        return Followed(
            family=family,
            requests=self.requests,
            hits=self.hits,
            unfollowed=self.unfollowed,
            threshold=self.threshold,
            at_ms=numbers[:, 0].copy(),
            hash=hashes,
            operation=operation,
            was_hit=numbers[:, 1] == HIT,
            size_bytes=numbers[:, 2].copy(),
            batch=numbers[:, 3].copy(),
            starts_ms=np.array(self.starts_ms, dtype=np.int64),
            ends_ms=np.array(self.ends_ms, dtype=np.int64),
            hot_batch=np.repeat(np.arange(len(self.hot)), [len(one) for one in self.hot]),
            hot_hash=np.concatenate(self.hot),
        )


def gather(batches: Iterable[AccessBatch], *, tick: Callable[[int], None] = lambda _requests: None) -> list[Followed]:
    """Put batches together, by family in alphabetical order; `tick` hears how many requests each batch told of."""
    found: dict[str, _Gathering] = {}
    for batch in batches:
        for access in batch.families:
            found.setdefault(access.family, _Gathering()).add(batch, access)
        tick(sum(access.requests for access in batch.families))
    return [found[family].followed(family) for family in sorted(found)]
