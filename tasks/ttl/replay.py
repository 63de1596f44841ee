"""How many requests would have hit, for each of many times to live: exactly, to the last request.

Every request that misses is filled at once, as by an application that reads through its cache. A value is there up to
and including the millisecond at which its time is over: Redis drops a key when the clock is past its expiry, not at it
(`keyIsExpired` in db.c). Two ways of keeping it:

    sliding   each request and each write starts the time anew (`GETEX`, or an `EXPIRE` after each read)
    fixed     only filling and writing do (`SET … EX`, the usual case)

Sliding needs one pass: a request hits exactly when the gap to the event before it of the same key is no longer than the
time to live, so the sorted gaps answer for all of them (Fagin 1977; Che, Tung and Wang 2002). Fixed needs the instants
of the fills, which depend on the time to live: they are jumped along, from each fill to the first request after its
end, for all keys at once (Jung, Berger and Balakrishnan 2003 describe the renewal process behind it).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tasks.ttl.traces import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.ttl.traces import Trace

Mode = Literal["sliding", "fixed"]

MODES: Final[tuple[Mode, ...]] = ("sliding", "fixed")
_FEW: Final = 48
"""With fewer keys still to go, they are followed one by one: an array of a few costs more than it saves."""


def count_hits(trace: Trace, ttls_ms: Sequence[int], mode: Mode) -> NDArray[np.int64]:
    """Count the hits for each time to live (milliseconds), in the order that they are given in.

    Raises:
        ValueError: a time to live is less than a millisecond.
    """
    wanted = np.asarray(ttls_ms, dtype=np.int64)
    if wanted.size and wanted.min() < 1:
        msg = f"a time to live is a millisecond at least, not {wanted.min()} ms"
        raise ValueError(msg)
    if not len(trace):
        return np.zeros(len(wanted), dtype=np.int64)
    events = _Events.of(trace)
    if mode == "sliding":
        return np.searchsorted(events.gaps_ms(), wanted, side="right").astype(np.int64)
    runs = events.runs()
    return np.array([runs.gets - runs.misses(int(ttl_ms)) for ttl_ms in wanted], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """The events of a trace by key, each in the order of time."""

    at_ms: NDArray[np.int64]
    operation: NDArray[np.int8]
    begins: NDArray[np.bool_]
    """Whether an event is the first of its key."""

    @classmethod
    def of(cls, trace: Trace) -> _Events:
        order = np.argsort(trace.key, kind="stable")  # events of one key stay in the order of time
        key = trace.key[order]
        begins = np.empty(len(key), dtype=np.bool_)
        begins[0] = True
        np.not_equal(key[1:], key[:-1], out=begins[1:])
        return cls(at_ms=trace.at_ms[order], operation=trace.operation[order], begins=begins)

    def gaps_ms(self) -> NDArray[np.int64]:
        """Give, for each request that could hit, the time since the event before it; sorted."""
        gaps = np.diff(self.at_ms)
        could_hit = (self.operation[1:] == Operation.GET) & ~self.begins[1:] & (self.operation[:-1] != Operation.DELETE)
        return np.sort(gaps[could_hit])

    def runs(self) -> _Runs:
        """Split the events into runs: each begins with a fill, and nothing in it is written or taken away."""
        kept = self.operation != Operation.DELETE
        after_delete = np.zeros(len(kept), dtype=np.bool_)
        after_delete[1:] = ~kept[:-1]
        begins = (self.begins | after_delete | (self.operation == Operation.SET))[kept]
        if begins.size:
            begins[0] = True
        at_ms, operation = self.at_ms[kept], self.operation[kept]
        starts = np.flatnonzero(begins)
        return _Runs(
            at_ms=at_ms,
            starts=starts,
            ends=np.append(starts[1:], len(at_ms)) if starts.size else starts,
            writes=int(np.count_nonzero(operation == Operation.SET)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """Requests after a fill, with nothing but time to end what it filled."""

    at_ms: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    writes: int
    """Runs that begin with a write, which is no request; all others begin with a miss."""

    @property
    def gets(self) -> int:
        return len(self.at_ms) - self.writes

    def misses(self, ttl_ms: int) -> int:
        """Count the fills of one time to live, without those that are writes."""
        # On one line of time, the runs so far apart that no fill of one reaches into the next.
        line = self._line(ttl_ms)
        at, ends = self.starts, self.ends
        fills = len(at)
        while len(at) > _FEW:
            following = np.searchsorted(line, line[at] + ttl_ms, side="right")
            goes_on = following < ends
            at, ends = following[goes_on], ends[goes_on]
            fills += len(at)
        return fills + sum(map(self._followed, at, ends, [ttl_ms] * len(at))) - self.writes

    def _line(self, ttl_ms: int) -> NDArray[np.int64]:
        lengths = self.at_ms[self.ends - 1] - self.at_ms[self.starts]
        origins = np.cumsum(lengths + ttl_ms + 1) - (lengths + ttl_ms + 1)
        shifts: NDArray[np.int64] = np.repeat(origins - self.at_ms[self.starts], self.ends - self.starts)
        return self.at_ms + shifts

    def _followed(self, start: int, end: int, ttl_ms: int) -> int:
        """Follow the fills of one run from one of them on; give how many come after it."""
        times = self.at_ms[start:end].tolist()
        place = fills = 0
        while (place := bisect_right(times, times[place] + ttl_ms, place)) < len(times):
            fills += 1
        return fills
