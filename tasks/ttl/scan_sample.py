"""From the keys that a scan saw to families with intervals.

SCAN walks the table of the database by hash, and the hash has a secret of the server's: the keys that it gives first
are a random sample without replacement, whatever they are named. So the number of keys of a family is hypergeometric,
and the sum of their sizes a mean of a finite population. References: Wilson (1927) for shares, Hall (1992, "On the
Removal of Skewness by Transformation") for means of what is skewed, as sizes are.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from tasks.ttl.prefixes import OTHER
from tasks.ttl.scanning import percentile
from tasks.ttl.scans import CONFIDENCE, Estimate, FamilyScan, Quantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.ttl.prefixes import Prefixes

NO_TTL: Final = -1
GONE: Final = -2
UNKNOWN: Final = -3
"""For a time or a size that was not asked for, or was barred."""

_STRAIGHT: Final = 1e-6
_OVERSHOOT_KEYS: Final = 4
"""How many keys more than asked for a full page may have without anybody noticing: the last bucket is read whole."""


class KeyFacts(NamedTuple):
    """What a server says of a key."""

    key: bytes
    ttl_ms: int
    """Or `NO_TTL`, `GONE`, `UNKNOWN`."""
    idle_s: int
    """Or `UNKNOWN`."""
    size_bytes: int
    """Or `UNKNOWN`."""


@dataclass(slots=True, kw_only=True)
class _Family:
    """What was seen of a family; sums of powers, for mean, variance and skewness."""

    keys: int = 0
    without_ttl: int = 0
    with_ttl: int = 0
    sized: int = 0
    bytes_1: float = 0.0
    bytes_2: float = 0.0
    bytes_3: float = 0.0
    ttl_ms: array[int] = field(default_factory=lambda: array("q"))
    idle_s: array[int] = field(default_factory=lambda: array("q"))

    def take(self, facts: KeyFacts) -> None:
        self.keys += 1
        if facts.ttl_ms == NO_TTL:
            self.without_ttl += 1
        elif facts.ttl_ms >= 0:
            self.with_ttl += 1
            self.ttl_ms.append(facts.ttl_ms)
        if facts.idle_s >= 0:
            self.idle_s.append(facts.idle_s)
        if facts.size_bytes >= 0:
            size = float(facts.size_bytes)
            self.sized += 1
            self.bytes_1 += size
            self.bytes_2 += size * size
            self.bytes_3 += size * size * size


class Sample:
    """Distinct keys that were seen, by family. Their names are forgotten at once; a hash of each stays."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._seen: set[int] = set()
        self._families = {family: _Family() for family in prefixes.families}
        self.duplicates = 0
        self.asked = 0
        """Keys that pages were asked for, but for the last of a complete scan."""
        self.lacking = 0
        """How many of those the pages lacked: they were there, but expired and not yet deleted."""
        self.pages = 0

    @property
    def keys(self) -> int:
        """How many distinct keys were seen."""
        return len(self._seen)

    def take_page(self, page: Sequence[KeyFacts], *, asked: int, given: int, is_last: bool) -> None:
        """Take a page that was asked for so many keys and gave so many, some of which may have vanished since."""
        if not is_last:
            self.pages += 1
            self.asked += asked
            self.lacking += max(0, asked - given)
        for facts in page:
            known = xxh3_64_intdigest(facts.key)
            if known in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(known)
            self._families[self._prefixes.family_of(facts.key)].take(facts)

    def total(self, at_begin: int, at_end: int, *, is_complete: bool) -> Estimate:
        """Estimate the keys of the database from the numbers that it gives itself at begin and end.

        Those count keys that are expired and not deleted yet, which SCAN passes over. A page stops when it has met as
        many keys as it was asked for, so what it lacks of them tells how many of those there are.
        """
        if is_complete:
            return Estimate(value=self.keys, low=self.keys, high=self.keys)
        asked = max(self.asked, 1)
        lacking = self.lacking / asked
        most_lacking = min(2 * lacking, lacking + self.pages * _OVERSHOOT_KEYS / asked, 1.0)
        middle = round((at_begin + at_end) / 2 * (1 - lacking))
        low = math.floor(min(at_begin, at_end) * (1 - most_lacking))
        high = max(at_begin, at_end)
        return Estimate(value=max(middle, self.keys), low=max(low, self.keys), high=max(high, self.keys))

    def families(self, total: Estimate) -> list[FamilyScan]:
        """Give each family with its intervals."""
        z = simultaneous_z(2 * len(self._families))
        return [self._family(name, seen, total, z) for name, seen in self._families.items()]

    def is_narrow(self, total: Estimate, target: float) -> bool:
        """Tell whether every named family that was met is known well enough, in keys and in bytes.

        A family of which nothing was met is known to be small, and how small exactly is worth no scan.
        """
        met = [one for one in self.families(total) if one.sampled and one.family != OTHER]
        widths = [width.half_width for one in met for width in (one.keys, one.size_bytes) if width is not None]
        return bool(met) and max(widths) <= target

    def idle_times(self) -> dict[str, Quantiles | None]:
        """Give the idle times of each family."""
        return {name: _quantiles(seen.idle_s, 1.0) for name, seen in self._families.items()}

    def _family(self, name: str, seen: _Family, total: Estimate, z: float) -> FamilyScan:
        with_known = seen.without_ttl + seen.with_ttl
        family = Estimate(value=seen.keys, low=seen.keys, high=seen.keys)
        if total.value > self.keys or total.low != total.high:
            family = estimate_keys(seen.keys, self.keys, total, z)
        return FamilyScan(
            family=name,
            sampled=seen.keys,
            keys=family,
            size_bytes=self._size(seen, total, z),
            without_ttl=_share(seen.without_ttl, with_known, family.value, z) if with_known else None,
            ttl_left_s=_quantiles(seen.ttl_ms, 0.001),
            idle_s=_quantiles(seen.idle_s, 1.0),
        )

    def _size(self, seen: _Family, total: Estimate, z: float) -> Estimate | None:
        if seen.sized < seen.keys or not self.keys:
            return None
        if total.low == total.high == self.keys:
            return Estimate(value=seen.bytes_1, low=seen.bytes_1, high=seen.bytes_1)
        return estimate_sum((seen.bytes_1, seen.bytes_2, seen.bytes_3), self.keys, total, z) if seen.keys else None


def simultaneous_z(intervals: int) -> float:
    """Give how many standard deviations each of several intervals has to reach so that all hold together."""
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * max(intervals, 1)))


def estimate_keys(seen: int, sampled: int, total: Estimate, z: float) -> Estimate:
    """Estimate how many of all keys belong to a family of which so many of the sampled ones are."""
    if not sampled:
        return Estimate(value=0, low=0, high=total.high)
    low, high = _wilson(seen, sampled, total.value, z)
    return Estimate(
        value=round(seen / sampled * total.value),
        low=max(math.floor(low * total.low), seen),
        high=min(math.ceil(high * total.high), total.high - (sampled - seen)),
    )


def estimate_sum(sums: tuple[float, float, float], sampled: int, total: Estimate, z: float) -> Estimate:
    """Estimate the sum of a size over all keys from sums of its first three powers over the sampled ones.

    Keys of other families count as size 0, so that the uncertainty of their number is in it.
    """
    first, second, third = (one / sampled for one in sums)
    variance = max(second - first**2, 0.0) * sampled / max(sampled - 1, 1)
    skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5 if variance else 0.0
    left = max(0.0, 1 - sampled / total.value) if total.value else 0.0
    error = math.sqrt(variance * left / sampled)
    low = first - error * _hall(z, skewness, sampled)
    high = first - error * _hall(-z, skewness, sampled)
    return Estimate(
        value=round(first * total.value),
        low=max(math.floor(low * total.low), sums[0]),
        high=math.ceil(high * total.high),
    )


def _hall(z: float, skewness: float, sampled: int) -> float:
    """Bend a bound of the normal distribution to a mean of what is skewed."""
    bend = skewness / math.sqrt(sampled)
    if abs(bend) < _STRAIGHT:
        return z
    inner = 1 + bend * (z - bend / 6)
    return 3 / bend * (math.copysign(abs(inner) ** (1 / 3), inner) - 1)


def _wilson(seen: int, sampled: int, total: float, z: float) -> tuple[float, float]:
    left = (total - sampled) / max(total - 1, 1)
    if left <= 0:
        return seen / sampled, seen / sampled
    effective = sampled / left
    share, squared = seen / sampled, z * z
    middle = (share + squared / (2 * effective)) / (1 + squared / effective)
    half = z / (1 + squared / effective) * math.sqrt(share * (1 - share) / effective + squared / (4 * effective**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(seen: int, sampled: int, total: float, z: float) -> Estimate:
    low, high = _wilson(seen, sampled, max(total, sampled), z)
    return Estimate(value=seen / sampled, low=low, high=high)


def _quantiles(values: Sequence[int], unit: float) -> Quantiles | None:
    if not values:
        return None
    ordered = sorted(values)
    p10, p50, p90, p99 = (percentile(ordered, share) * unit for share in (0.10, 0.50, 0.90, 0.99))
    return Quantiles(p10=p10, p50=p50, p90=p90, p99=p99, keys=len(ordered))
