"""Plays real traces through the cache's sampler, as apps would, to see what a study makes of the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from nightcrew.cache._sampler import Sampler
from tasks.ttl.outcomes import Lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightcrew.cache._access_batch import AccessBatch
    from tasks.ttl.traces import Trace

FAMILY: Final = "defaults"
_SHIPPED_EVERY_MS: Final = 10_000
_OPERATIONS: Final = ("get", "set", "delete")


@dataclass(slots=True)
class _Clock:
    now_ms: int

    def __call__(self) -> float:
        return self.now_ms / 1_000


def sampled(
    trace: Trace, seed: int, *, ttl_ms: int = 3_600_000, processes: int = 1, every_ms: int = _SHIPPED_EVERY_MS
) -> Iterator[AccessBatch]:
    """Let processes take turns in asking what the trace asks, each with a sampler of its own that ships in time."""
    lanes = Lanes.of(trace)
    hits = np.zeros(len(trace), dtype=np.bool_)
    hits[lanes.order] = lanes.play(ttl_ms, "fixed").is_hit
    clock = _Clock(int(trace.at_ms[0]))
    salt = seed.to_bytes(16, "big")
    samplers = [Sampler(salt, clock=clock) for _ in range(processes)]
    ships_ms = clock.now_ms + every_ms
    rows = zip(trace.at_ms.tolist(), trace.key.tolist(), trace.operation.tolist(), hits.tolist(), strict=True)
    for number, (at_ms, key, operation, hit) in enumerate(rows):
        while at_ms >= ships_ms:
            clock.now_ms = ships_ms
            yield from _taken(samplers)
            ships_ms += every_ms
        clock.now_ms = at_ms
        asks = samplers[number % processes]
        asks.record(FAMILY, str(key), _OPERATIONS[operation], hit=hit, size_bytes=100)
    clock.now_ms += 1
    yield from _taken(samplers)


def _taken(samplers: list[Sampler]) -> Iterator[AccessBatch]:
    yield from (batch for sampler in samplers if (batch := sampler.take()) is not None)
