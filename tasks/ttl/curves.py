"""The hit rate over the time to live, with the band in which the truth lies 95 times of 100."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.ttl.replay import count_hits
from tasks.ttl.sampling import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.ttl.replay import Mode
    from tasks.ttl.sampling import Sample

_QUANTILE: Final = 1.96
"""Of the normal distribution, for 95 %."""
_WIDENED: Final = 1.0
"""What the band was widened by until it held on real traces, see `ops/performance.md`."""
_UNSEEN: Final = 3
_FEWEST: Final = 2
"""Keys without which nothing can be said of their spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HitRate:
    """What share of the requests one time to live would have answered."""

    ttl_ms: int
    hits: float
    value: float
    low: float
    high: float


def hit_rates(sample: Sample, ttls_ms: Sequence[int], mode: Mode) -> list[HitRate]:
    """Estimate the hit rate of each time to live; of an exact sample the band has no width.

    Raises:
        ValueError: a time to live is less than a millisecond.
    """
    if sample.is_exact:
        found = count_hits(sample.trace, ttls_ms, mode).tolist()
        return [_exactly(ttl_ms, hits, sample.requests) for ttl_ms, hits in zip(ttls_ms, found, strict=True)]
    return [_estimated(sample, ttl_ms, mode) for ttl_ms in ttls_ms]


def _exactly(ttl_ms: int, hits: int, requests: int) -> HitRate:
    rate = hits / requests if requests else 0.0
    return HitRate(ttl_ms=ttl_ms, hits=hits, value=rate, low=rate, high=rate)


def _estimated(sample: Sample, ttl_ms: int, mode: Mode) -> HitRate:
    is_hit = sample.lanes.play(ttl_ms, mode).is_hit & sample.is_counted
    known = float(sample.known[is_hit].sum())
    rest, deviation = _rest(sample, is_hit)
    requests = max(1, sample.requests)
    rate = min(1.0, max(0.0, (known + rest) / requests))
    half = _WIDENED * _QUANTILE * deviation / requests + _unseen(sample) + sample.unknown_share
    return HitRate(
        ttl_ms=ttl_ms,
        hits=rate * sample.requests,
        value=rate,
        low=max(0.0, rate - half),
        high=min(1.0, rate + half),
    )


def _rest(sample: Sample, is_hit: NDArray[np.bool_]) -> tuple[float, float]:
    """Estimate the hits of the rest, with the deviation of the estimate.

    A ratio to the requests, corrected by a regression on the hits that there really were, whose number is known
    (Cochran, Sampling Techniques, chapters 6 and 7); the sampled keys are the clusters.
    """
    asked, hits = by_cluster(sample, sample.is_counted), by_cluster(sample, is_hit)
    total, keys = float(asked.sum()), len(asked)
    if keys < _FEWEST or not total:
        return 0.0, 0.0 if sample.rate >= 1.0 else float(sample.rest)
    apart = hits - asked * (float(hits.sum()) / total)
    was = by_cluster(sample, sample.was_hit & sample.is_counted)
    was_apart = was - asked * (float(was.sum()) / total)
    spread = float(was_apart @ was_apart)
    slope = float(apart @ was_apart) / spread if spread else 0.0
    missing = sample.rest_hits - sample.scale * float(was.sum())
    left = apart - slope * was_apart
    variance = (1.0 - sample.rate) * keys / (keys - 1) * float(left @ left)
    return sample.scale * float(hits.sum()) + slope * missing, sample.scale * sqrt(variance)


def _unseen(sample: Sample) -> float:
    """Give what may be there though no sampled key shows it: three times what one request of them speaks for.

    That is the rule of three (Hanley and Lippman-Hand 1983): of what was seen not once, there may be three.
    """
    return _UNSEEN * sample.scale / max(1, sample.requests)


def by_cluster(sample: Sample, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum what the chosen events add to the rest, for each sampled key."""
    clusters, number = np.unique(sample.cluster, return_inverse=True)
    sums = np.bincount(number, weights=sample.sign * chosen, minlength=len(clusters))
    of_keys: NDArray[np.float64] = sums[clusters != ALL]
    return of_keys
