"""What a time to live costs: for its misses, for the memory of its entries and for what is read out of date.

    J(T) = price of a miss x misses + price of a byte and hour x bytes and hours + price of a stale read x stale reads

The unit is whatever the prices are in; money, or misses with the price of a miss as 1. A read of age a is stale with
probability 1 - exp(-u a) when the row behind it is updated u times an hour at random, and nobody tells the cache (Cho
and Garcia-Molina 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.ttl.sampling import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.ttl.outcomes import Lanes, Outcomes
    from tasks.ttl.replay import Mode
    from tasks.ttl.sampling import Sample

HOUR_MS: Final = 3_600_000
GIB: Final = 2**30
ENTRY_BYTES: Final = 96
"""Of an entry beside its value: two names in two tables, an object, a time (measured with MEMORY USAGE on Redis 7)."""
ASSUMED_BYTES: Final = 1_024
"""Of a value, where the trace names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What things cost; all in one unit.

    The defaults are US dollars: 20 ms of a core that costs 0.10 an hour, a GiB of memory at 0.02 an hour, and a stale
    read that costs no more than the miss that would have avoided it.
    """

    miss: float = 6e-7
    gib_hour: float = 0.02
    stale_read: float = 6e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is true of a family whatever its time to live."""

    prices: Prices = Prices()
    updates_per_key_hour: float = 0.0
    """How often the row behind a key changes without the cache being told."""
    entry_bytes: int = ENTRY_BYTES
    assumed_bytes: int = ASSUMED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From one instant to another, in blocks of one length."""

    from_ms: int
    to_ms: int
    block_ms: int

    @property
    def hours(self) -> float:
        """Its length."""
        return (self.to_ms - self.from_ms) / HOUR_MS

    @property
    def blocks(self) -> int:
        """How many blocks it has; the last may be short."""
        return max(1, -(-(self.to_ms - self.from_ms) // self.block_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What one time to live costs in a period, by block; what the sampled keys say of the rest apart, by key."""

    hours: float
    known: NDArray[np.float64]
    """By block."""
    estimated: NDArray[np.float64]
    """By sampled key and block."""
    hits: float
    requests: float
    stale_reads: float
    resident_bytes: float
    """On the average."""

    @property
    def cost_per_hour(self) -> float:
        """All of it."""
        return float(self.known.sum() + self.estimated.sum()) / self.hours if self.hours else 0.0

    @property
    def stale_share(self) -> float:
        """Of the hits."""
        return self.stale_reads / self.hits if self.hits else 0.0


def bill(sample: Sample, ttl_ms: int, mode: Mode, conditions: Conditions, period: Period) -> Bill:
    """Add up what one time to live costs in a period. What was there before the period began is there in it."""
    lanes, outcomes = sample.lanes, sample.lanes.play(ttl_ms, mode)
    prices, is_in = conditions.prices, (lanes.at_ms >= period.from_ms) & (lanes.at_ms < period.to_ms)
    counted = sample.is_counted & is_in
    hits, misses = counted & outcomes.is_hit, counted & outcomes.is_miss
    stale = _stale(outcomes, conditions.updates_per_key_hour) * hits
    asked = prices.miss * misses + prices.stale_read * stale
    block = np.clip((lanes.at_ms - period.from_ms) // period.block_ms, 0, period.blocks - 1)
    keys = _Keys.of(sample)
    known, estimated = np.zeros(period.blocks), np.zeros((keys.count, period.blocks))
    byte_hours = 0.0
    size_bytes = _sizes(sample, conditions)
    for number in range(period.blocks):
        kept = _kept_hours(lanes, outcomes, period, number) * size_bytes
        cost = np.where(block == number, asked, 0.0) + prices.gib_hour * kept / GIB
        known[number] = float(sample.known @ cost)
        estimated[:, number] = keys.sums(sample.scale * sample.sign * cost)
        byte_hours += float(sample.weight @ kept)
    weight = sample.weight
    return Bill(
        hours=period.hours,
        known=known,
        estimated=estimated,
        hits=float(weight[hits].sum()),
        requests=float(weight[counted].sum()),
        stale_reads=float(weight @ stale),
        resident_bytes=byte_hours / period.hours if period.hours else 0.0,
    )


def bills(sample: Sample, ttls_ms: Sequence[int], mode: Mode, conditions: Conditions, period: Period) -> list[Bill]:
    """Add up what each time to live costs."""
    return [bill(sample, ttl_ms, mode, conditions, period) for ttl_ms in ttls_ms]


def _stale(outcomes: Outcomes, updates_per_hour: float) -> NDArray[np.float64]:
    stale: NDArray[np.float64] = -np.expm1(-updates_per_hour * (outcomes.age_ms / HOUR_MS))
    return stale


def _kept_hours(lanes: Lanes, outcomes: Outcomes, period: Period, block: int) -> NDArray[np.float64]:
    """Give how much of one block passes after each event until the next of its key, or until nothing is there."""
    begin = period.from_ms + block * period.block_ms
    end = min(period.to_ms, begin + period.block_ms)
    kept: NDArray[np.float64] = np.clip(np.minimum(outcomes.gone_ms, end) - np.maximum(lanes.at_ms, begin), 0, None)
    return kept / HOUR_MS


def _sizes(sample: Sample, conditions: Conditions) -> NDArray[np.float64]:
    sizes, count = sample.trace.size_bytes, len(sample.trace)
    values = np.full(count, conditions.assumed_bytes) if sizes is None else sizes[sample.lanes.order]
    return values.astype(np.float64) + conditions.entry_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The sampled keys, numbered."""

    count: int
    number: NDArray[np.int64]
    """Of each event; those of no sampled key have one beyond the last."""

    @classmethod
    def of(cls, sample: Sample) -> _Keys:
        keys, number = np.unique(sample.cluster, return_inverse=True)
        if len(keys) and keys[0] == ALL:
            number = np.where(number == 0, len(keys), number) - 1
            return cls(count=len(keys) - 1, number=number)
        return cls(count=len(keys), number=number)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(self.number, weights=values, minlength=self.count)[: self.count].astype(np.float64)
