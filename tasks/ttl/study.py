"""What each family would gain or lose with another time to live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tasks.ttl.replay import count_hits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.ttl.replay import Mode
    from tasks.ttl.traces import Trace

POINTS: Final = 40
"""On a curve whose times to live nobody has named."""
_SHORTEST_MS: Final = 1_000
_KNOWN_SHARE: Final = 0.5
"""Of the span of a trace: beyond it too many gaps are cut off by its ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What one time to live would have given."""

    ttl_s: float
    hits: int
    hit_rate: float
    is_censored: bool
    """Whether the trace is too short for it: what was kept longer may have hit after the trace's end."""

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `ttl study --json` documents; the replay is exact, so its band has no width."""
        return {
            "ttl_s": self.ttl_s,
            "hit_rate": self.hit_rate,
            "low": self.hit_rate,
            "high": self.hit_rate,
            "hits": self.hits,
            "censored": self.is_censored,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyStudy:
    """A family of keys, as a trace shows it."""

    family: str
    mode: Mode
    requests: int
    keys: int
    span_s: float
    one_hit_keys: int
    """Keys that were asked for once only: whatever is kept of them is wasted."""
    curve: Sequence[CurvePoint]

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `ttl study --json` documents."""
        return {
            "requests": self.requests,
            "keys": self.keys,
            "one_hit_keys": self.one_hit_keys,
            "span_s": self.span_s,
            "mode": self.mode,
            "hit_rate": None,
            "curve": [point.to_json() for point in self.curve],
            "recommended_ttl_s": None,
            "verdict": "descriptive",
        }


def study_trace(
    trace: Trace, mode: Mode, ttls_s: Sequence[float] | None, *, tick: Callable[[str], None] = lambda _family: None
) -> list[FamilyStudy]:
    """Study each family of a trace; None for times to live takes those that its span can tell of."""
    studies = []
    for family, part in trace.by_family():
        tick(family)
        studies.append(_study(family, part, mode, ttls_s or usual_ttls_s(part.span_ms)))
    return studies


def usual_ttls_s(span_ms: int) -> list[float]:
    """Give times to live from a second to half of a span, each the same factor after the one before."""
    longest = max(_SHORTEST_MS, int(span_ms * _KNOWN_SHARE))
    chosen = np.unique(np.geomspace(_SHORTEST_MS, longest, POINTS).round().astype(np.int64))
    return [ttl_ms / 1_000 for ttl_ms in chosen.tolist()]


def _study(family: str, trace: Trace, mode: Mode, ttls_s: Sequence[float]) -> FamilyStudy:
    gets = trace.gets
    hits = count_hits(trace, [round(ttl_s * 1_000) for ttl_s in ttls_s], mode).tolist()
    asked = trace.key[trace.operation == 0]
    keys, times = np.unique(asked, return_counts=True)
    curve = [
        CurvePoint(
            ttl_s=ttl_s,
            hits=found,
            hit_rate=found / gets if gets else 0.0,
            is_censored=ttl_s * 1_000 > trace.span_ms * _KNOWN_SHARE,
        )
        for ttl_s, found in zip(ttls_s, hits, strict=True)
    ]
    return FamilyStudy(
        family=family,
        mode=mode,
        requests=gets,
        keys=len(keys),
        span_s=trace.span_ms / 1_000,
        one_hit_keys=int(np.count_nonzero(times == 1)),
        curve=curve,
    )
