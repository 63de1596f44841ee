"""How a server is looked at without being disturbed: how large pages are, how long to rest, and when to stop.

Pure: what was measured goes in, what to do comes out. A page is the only stretch for which the server answers nobody
else, so its length bounds what a request of an app can wait for the scan, and the duty bounds how many have to.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Ended = Literal["complete", "target", "keys", "bytes", "time"]
"""Why a scan went no further: all was seen, the intervals are narrow enough, or one of its budgets is spent."""

_FIRST_COUNT: Final = 20
_MOST_COUNT: Final = 1_000
_FAR_TOO_LONG: Final = 2
_FULL_PAGE: Final = 0.85
"""Of the longest time for a page: beyond it the next page is smaller."""
_SHORT_PAGE: Final = 0.6
"""Below it the next is larger."""
_FLOOR_MS: Final = 1.0
"""Round trips below this are never slow: on a quiet loopback twice the 99th percentile is noise."""
_WINDOW: Final = 64
_SLOW_PINGS: Final = 4
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What a scan may cost at most, and when it is good enough."""

    budget_keys: int = 20_000
    """Distinct keys that are looked at; a smaller database is seen whole."""
    budget_bytes: int = 64 * 1024 * 1024
    """Of names of keys that are fetched: few very long names are as dear as many short ones."""
    target: float = 0.05
    """Half width of an interval as a share of its figure; narrower ones need no more keys."""
    max_s: float = 120.0
    """From begin to end, pauses included."""
    page_ms: float = 0.5
    """Time of the server for one page; at most 1."""
    duty: float = 0.005
    """Share of the time for which the server works for the scan; at most 0.1. As many requests of apps meet a page:
    from a hundredth on they are the slowest hundredth themselves, and the 99th percentile is a page."""
    most_memory: float = 0.95
    """Of the memory that the server may use: above it a scan waits, or goes at a quarter of the duty where the server
    makes room by itself, because there a full memory is the usual state."""
    use_replica: bool = True
    """Count on a replica where one is near; idle times are always those of the primary."""
    use_script: bool = True
    """Read a page by one script where the server lets us, else by pipelines."""
    idle_keys: int = 4_000
    """Keys whose idle times the primary is asked for where a replica is asked for the rest."""
    baseline_pings: int = 100
    """Round trips that are measured before the scan, to know what is slow."""

    def __post_init__(self) -> None:
        _check("budget_keys", self.budget_keys, 1, 10**9)
        _check("budget_bytes", self.budget_bytes, 1, 2**40)
        _check("target", self.target, 0.0, 10.0)
        _check("max_s", self.max_s, 0.1, 86_400)
        _check("page_ms", self.page_ms, 0.05, 1.0)
        _check("duty", self.duty, 0.0001, 0.1)
        _check("most_memory", self.most_memory, 0.01, 1.0)
        _check("idle_keys", self.idle_keys, 1, 10**9)
        _check("baseline_pings", self.baseline_pings, 10, 10_000)


class PageSize:
    """How many keys the next page is asked for, by feedback: as many as fit into its time."""

    def __init__(self, page_ms: float) -> None:
        self._page_ms = page_ms
        self.count = _FIRST_COUNT

    def took(self, milliseconds: float) -> None:
        """Learn how long the last page was."""
        share = milliseconds / self._page_ms
        if share > _FAR_TOO_LONG:
            self.count //= 2
        elif share > _FULL_PAGE:
            self.count = int(self.count * _FULL_PAGE / share)
        elif share < _SHORT_PAGE:
            self.count += max(1, self.count // 4)
        self.count = min(max(self.count, 1), _MOST_COUNT)


def rest_s(busy_s: float, duty: float) -> float:
    """Give how long to rest after work, so that the work is this share of the whole."""
    return busy_s * (1 - duty) / duty


class LatencyWatch:
    """Tells when round trips have become slow beside those from before the scan.

    Its pings run between pages: what they see is the server's other work, and pages are kept short by their own rule.
    Slow is a round trip of more than twice the 99th percentile of before; a single one is chance, four of the last
    64 are not.
    """

    def __init__(self, before_ms: Sequence[float]) -> None:
        self.slow_ms = max(2 * percentile(before_ms, 0.99), _FLOOR_MS)
        self._last: deque[bool] = deque(maxlen=_WINDOW)

    def saw(self, milliseconds: float) -> None:
        """Take note of a round trip."""
        self._last.append(milliseconds > self.slow_ms)

    def forget(self) -> None:
        """Judge by what comes from now on: after a pause."""
        self._last.clear()

    @property
    def is_slow(self) -> bool:
        """Whether the scan should stand back."""
        return sum(self._last) >= _SLOW_PINGS


def wait_s(tries: int) -> float:
    """Give how long to stand back for the n-th time in a row, from 0."""
    return float(min(_FIRST_WAIT_S * 2 ** min(tries, 16), _LONGEST_WAIT_S))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value at a rank, without interpolation; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        msg = f"{name} must be from {least:g} to {most:g}, not {value!r}"
        raise ValueError(msg)
