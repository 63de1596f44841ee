"""What becomes of each request under a time to live: hit or miss, how old what it got is, how long its entry stays.

The replay of `tasks.ttl.replay` counts hits for many times to live at once. This one says it for each request, one time
to live after the other, so that whatever is additive can be summed by instant, key or weight: bytes kept, stale reads,
the cost of an hour.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.ttl.traces import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.ttl.replay import Mode
    from tasks.ttl.traces import Trace

_FEW: Final = 48
"""With fewer keys still to go, they are followed one by one: an array of a few costs more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """One time to live, played through; arrays as long as the lanes' and in their order."""

    is_hit: NDArray[np.bool_]
    is_miss: NDArray[np.bool_]
    """Of requests alone: writes are neither."""
    age_ms: NDArray[np.int64]
    """Since what is there was filled or written; 0 where it just was."""
    gone_ms: NDArray[np.int64]
    """When what is there after the event has gone: expired, overwritten, taken away, or asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The events of a trace by key, each in the order of time."""

    order: NDArray[np.int64]
    """Places in the trace."""
    at_ms: NDArray[np.int64]
    operation: NDArray[np.int8]
    begins: NDArray[np.bool_]
    """Whether nothing is there before the event, whatever the time to live: the first of its key, or after a delete."""
    next_ms: NDArray[np.int64]
    """When the next event of the same key is, or the trace's end."""

    @classmethod
    def of(cls, trace: Trace) -> Lanes:
        """Sort a trace."""
        order = np.argsort(trace.key, kind="stable")  # events of one key stay in the order of time
        key, at_ms, operation = trace.key[order], trace.at_ms[order], trace.operation[order]
        is_first = np.ones(len(key), dtype=np.bool_)
        np.not_equal(key[1:], key[:-1], out=is_first[1:])
        begins = is_first.copy()
        begins[1:] |= operation[:-1] == Operation.DELETE
        next_ms = np.empty_like(at_ms)
        next_ms[:-1] = at_ms[1:]
        is_last = np.append(is_first[1:], True)
        next_ms[is_last[: len(next_ms)]] = trace.at_ms[-1] if len(trace) else 0
        return cls(order=order, at_ms=at_ms, operation=operation, begins=begins, next_ms=next_ms)

    def play(self, ttl_ms: int, mode: Mode) -> Outcomes:
        """Play one time to live through."""
        is_get = self.operation == Operation.GET
        is_fill = self._sliding_fills(ttl_ms) if mode == "sliding" else self._fixed_fills(ttl_ms)
        is_miss = is_get & is_fill
        places = np.arange(len(self.at_ms))
        filled_ms = self.at_ms[np.maximum.accumulate(np.where(is_fill, places, 0))] if places.size else self.at_ms
        lives_from = self.at_ms if mode == "sliding" else filled_ms
        gone_ms = np.minimum(self.next_ms, lives_from + ttl_ms)
        gone_ms = np.where(self.operation == Operation.DELETE, self.at_ms, gone_ms)
        return Outcomes(is_hit=is_get & ~is_fill, is_miss=is_miss, age_ms=self.at_ms - filled_ms, gone_ms=gone_ms)

    def _given_fills(self) -> NDArray[np.bool_]:
        """Tell of which events something new is there whatever the time to live."""
        given: NDArray[np.bool_] = self.begins | (self.operation != Operation.GET)
        return given

    def _sliding_fills(self, ttl_ms: int) -> NDArray[np.bool_]:
        is_fill = self._given_fills()
        is_fill[1:] |= np.diff(self.at_ms) > ttl_ms
        return is_fill

    def _fixed_fills(self, ttl_ms: int) -> NDArray[np.bool_]:
        """Jump along each run from one fill to the first request after its end, all runs at once."""
        is_fill = self._given_fills()
        if not len(is_fill):
            return is_fill
        starts = np.flatnonzero(is_fill)
        ends = np.append(starts[1:], len(is_fill))
        lengths = self.at_ms[ends - 1] - self.at_ms[starts] + ttl_ms + 1
        # On one line of time, the runs so far apart that no fill of one reaches into the next.
        line = self.at_ms + np.repeat(np.cumsum(lengths) - lengths - self.at_ms[starts], ends - starts)
        at = starts
        while len(at) > _FEW:
            following = np.searchsorted(line, line[at] + ttl_ms, side="right")
            goes_on = following < ends
            at, ends = following[goes_on], ends[goes_on]
            is_fill[at] = True
        for start, end in zip(at.tolist(), ends.tolist(), strict=True):
            is_fill[self._followed(start, end, ttl_ms)] = True
        return is_fill

    def _followed(self, start: int, end: int, ttl_ms: int) -> list[int]:
        """Follow the fills of one run after one of them; give their places."""
        times = self.at_ms[start:end].tolist()
        places = []
        place = 0
        while (place := bisect_right(times, times[place] + ttl_ms, place)) < len(times):
            places.append(start + place)
        return places
