"""How much of what a cache answers is out of date, when rows change at random and nobody tells it."""

from __future__ import annotations

from math import expm1
from typing import Final

_HOUR_MS: Final = 3_600_000
_LONGEST_MS: Final = 10 * 366 * 24 * _HOUR_MS
_HALVINGS: Final = 60


def stale_share(ttl_ms: float, updates_per_hour: float) -> float:
    """Give the share of hits that is out of date, for a time to live that only filling starts.

    Requests and updates come at random: 1 - (1 - exp(-u T)) / (u T), about u T / 2 for small u T (Cho and
    Garcia-Molina 2003).
    """
    expected = updates_per_hour * ttl_ms / _HOUR_MS
    return 1 + expm1(-expected) / expected if expected > 0 else 0.0


def longest_ttl_ms(updates_per_hour: float, share: float) -> int:
    """Give the longest time to live, at least a millisecond, with no more than this share of the hits out of date."""
    low, high = 1.0, float(_LONGEST_MS)
    if stale_share(high, updates_per_hour) <= share:
        return _LONGEST_MS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if stale_share(middle, updates_per_hour) <= share else (low, middle)
    return max(1, int(low))
