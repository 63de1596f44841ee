"""Makes of a sample of a family's requests what the whole of them would have given, with the error that is left.

The hottest keys are followed for being hot, and among all keys those whose hash lies below a threshold. What is summed
over all requests is therefore summed twice: over the stretches in which a key was followed for being hot, which are
known whole (a certainty stratum), and, for the rest, over the sampled keys, scaled by the number of requests that the
rest is known to have (a ratio estimator with the key as cluster; fixed-size SHARDS: Waldspurger and others, FAST 2015).

The table of hot keys rolls, so a stretch may begin in the middle of a key's life, where nobody knows whether the first
request of it was a hit. Only that one is in doubt: entries with the same time to live that are filled along the same
requests take turns, so whatever was there before, the number of fills in a stretch differs by one at most. The first
request of each stretch hence belongs to the rest, where the sampled keys, whose lives are known whole, speak for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from nightcrew.cache._access_batch import LARGEST_HASH
from tasks.ttl.outcomes import Lanes
from tasks.ttl.traces import Operation, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.ttl.gathering import Followed

ALL: Final = -1
"""Cluster of what is known of a key whole, and is no estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Requests of one family, each with the number of requests that it speaks for.

    Arrays are as long as the trace's lanes and in their order. An exact sample is the trace itself, each weight 1.
    """

    family: str
    trace: Trace
    lanes: Lanes
    known: NDArray[np.float64]
    """What an event speaks for by itself: 1 where it was followed for being hot or everything was, 0 in other lives."""
    is_counted: NDArray[np.bool_]
    """Whether a request is one of those that its stratum counts: the first of a hot stretch is not."""
    cluster: NDArray[np.int64]
    """Number of the sampled key that speaks here, or `ALL`."""
    sign: NDArray[np.int8]
    """What an event adds to what the sampled keys say of the rest: 1 in their lives, -1 in their hot stretches."""
    scale: float
    """How many requests of the rest one of the sampled keys' speaks for."""
    requests: int
    """Of the family, known exactly."""
    rest: int
    """How many of them the sampled keys speak for."""
    was_hit: NDArray[np.bool_]
    """Whether the cache had an answer at the time; nothing but false where nobody knows."""
    rest_hits: int
    """Of the rest, how many the cache answered at the time: known exactly, which betters every other estimate."""
    rate: float
    """Share of all keys that were sampled."""
    unknown_share: float = 0.0
    """Share of the requests that should have been followed and were not: how far the truth may be off besides."""

    @property
    def weight(self) -> NDArray[np.float64]:
        """How many requests each event speaks for, all in all."""
        return self.known + self.scale * self.sign

    @property
    def is_exact(self) -> bool:
        """Whether nothing was estimated."""
        return self.rate >= 1.0 and not self.unknown_share

    @property
    def keys(self) -> float:
        """Keys that were asked for, as far as the sampled ones tell."""
        sampled = self.cluster[self.cluster != ALL]
        return len(np.unique(sampled)) / self.rate if len(sampled) else float(len(np.unique(self.trace.key)))


def exact_sample(family: str, trace: Trace) -> Sample:
    """Take a trace as it is: each request speaks for itself."""
    lanes, count = Lanes.of(trace), len(trace)
    return Sample(
        family=family,
        trace=trace,
        lanes=lanes,
        known=np.ones(count),
        is_counted=np.ones(count, dtype=np.bool_),
        cluster=np.full(count, ALL, dtype=np.int64),
        sign=np.zeros(count, dtype=np.int8),
        scale=0.0,
        requests=trace.gets,
        rest=0,
        was_hit=np.zeros(count, dtype=np.bool_),
        rest_hits=0,
        rate=1.0,
    )


def sample_of(followed: Followed) -> Sample:
    """Weigh what the access log tells of a family."""
    is_sampled = followed.hash < np.uint64(followed.threshold)
    if followed.threshold >= LARGEST_HASH:
        return _whole(followed)
    is_hot = _is_pair(followed)
    stretch = _stretches(followed, np.flatnonzero(is_hot))
    lives, hot = np.flatnonzero(is_sampled), np.flatnonzero(is_hot)
    place = np.concatenate([lives, hot])
    keys = np.unique(followed.hash, return_inverse=True)[1].astype(np.int64)
    lane = np.concatenate([keys[lives], len(followed.hash) + stretch])
    is_life = np.arange(len(place)) < len(lives)
    order = np.argsort(followed.at_ms[place], kind="stable")
    place, lane, is_life = place[order], lane[order], is_life[order]
    trace = _trace(followed, place, lane)
    lanes = Lanes.of(trace)
    place, is_life = place[lanes.order], is_life[lanes.order]
    lane = lane[lanes.order]
    is_first = np.ones(len(lane), dtype=np.bool_)
    np.not_equal(lane[1:], lane[:-1], out=is_first[1:])
    is_counted = (lanes.operation == Operation.GET) & (is_life | ~is_first)
    sampled = is_sampled[place]
    sign = np.where(is_life, 1, np.where(sampled, -1, 0)).astype(np.int8)
    known = int(np.count_nonzero(is_counted & ~is_life))
    in_sample = int(np.sum(sign[is_counted]))
    rest = max(0, followed.requests - known)
    was_hit = followed.was_hit[place]
    hits_known = int(np.count_nonzero(was_hit & is_counted & ~is_life))
    return Sample(
        family=followed.family,
        trace=trace,
        lanes=lanes,
        known=np.where(is_life, 0.0, 1.0),
        is_counted=is_counted,
        cluster=np.where(sampled, keys[place], ALL),
        sign=sign,
        scale=rest / in_sample if in_sample else 0.0,
        requests=followed.requests,
        rest=rest,
        was_hit=was_hit,
        rest_hits=max(0, followed.hits - hits_known),
        rate=followed.threshold / LARGEST_HASH,
        unknown_share=followed.unfollowed / max(1, followed.requests),
    )


def _whole(followed: Followed) -> Sample:
    place = np.arange(len(followed.hash))
    keys = np.unique(followed.hash, return_inverse=True)[1].astype(np.int64)
    exact = exact_sample(followed.family, _trace(followed, place, keys))
    missing = max(0, followed.requests - exact.requests)
    if not missing:
        return exact
    return replace(
        exact,
        known=exact.known * (followed.requests / max(1, exact.requests)),
        requests=followed.requests,
        unknown_share=missing / followed.requests,
    )


def _trace(followed: Followed, place: NDArray[np.int64], lane: NDArray[np.int64]) -> Trace:
    return Trace(
        at_ms=followed.at_ms[place],
        key=lane,
        operation=followed.operation[place],
        family=np.zeros(len(place), dtype=np.int32),
        families=(followed.family,),
        size_bytes=_known_sizes(lane, followed.size_bytes[place]),
    )


def _known_sizes(lane: NDArray[np.int64], size_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each event the size that its key had at last; a miss tells none."""
    order = np.argsort(lane, kind="stable")
    sizes, places = size_bytes[order], np.arange(len(order))
    last = np.maximum.accumulate(np.where(sizes > 0, places, 0))
    of_same = lane[order][last] == lane[order]
    filled = np.empty_like(size_bytes)
    filled[order] = np.where(of_same, sizes[last], 0)
    usual = int(np.median(size_bytes[size_bytes > 0])) if np.any(size_bytes > 0) else 0
    return np.where(filled > 0, filled, usual)


def _is_pair(followed: Followed) -> NDArray[np.bool_]:
    """Tell of each request whether its batch followed its key for being hot."""
    numbers = np.unique(np.concatenate([followed.hot_hash, followed.hash]), return_inverse=True)[1].astype(np.int64)
    hot, asked = numbers[: len(followed.hot_hash)], numbers[len(followed.hot_hash) :]
    width = int(numbers.max(initial=0)) + 1
    return np.isin(followed.batch * width + asked, followed.hot_batch * width + hot)


def _stretches(followed: Followed, place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the stretches of hot requests: within one of them every batch, of whatever process, followed the key."""
    numbers = np.unique(np.concatenate([followed.hot_hash, followed.hash[place]]), return_inverse=True)[1]
    pairs, asked = numbers[: len(followed.hot_hash)], numbers[len(followed.hot_hash) :]
    order = np.argsort(asked, kind="stable")
    key, at_ms = asked[order].astype(np.int64), followed.at_ms[place][order]
    base = int(min(followed.starts_ms.min(initial=0), at_ms.min(initial=0)))
    width = int(max(followed.ends_ms.max(initial=0), at_ms.max(initial=0))) - base + 1
    from_ms, to_ms = at_ms[:-1], at_ms[1:]
    batches = _overlapping(np.sort(followed.starts_ms), np.sort(followed.ends_ms), from_ms, to_ms)
    starts = np.sort(pairs * width + followed.starts_ms[followed.hot_batch] - base)
    ends = np.sort(pairs * width + followed.ends_ms[followed.hot_batch] - base)
    own = key[:-1] * width - base
    following = _overlapping(starts, ends, own + from_ms, own + to_ms)
    begins = np.ones(len(key), dtype=np.bool_)
    begins[1:] = (key[1:] != key[:-1]) | (following < batches)
    stretch = np.empty(len(key), dtype=np.int64)
    stretch[order] = np.cumsum(begins) - 1
    return stretch


def _overlapping(
    starts: NDArray[np.int64], ends: NDArray[np.int64], from_ms: NDArray[np.int64], to_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the batches that saw anything between two instants."""
    return np.searchsorted(starts, to_ms, side="right") - np.searchsorted(ends, from_ms, side="left")
