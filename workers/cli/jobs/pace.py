"""How fast a run comes on and how long it has to go, worked out from what was seen of it. No I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_SAMPLES: Final = 30
_LONGEST: Final = timedelta(days=365)


@dataclass(slots=True)
class Pace:
    """The progress of one run; an attempt that begins anew begins a new measurement."""

    _samples: deque[tuple[datetime, float]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _fence: int = -1

    def note(self, *, at: datetime, fence: int, share: float | None) -> None:
        """Note how far the attempt with this fence was; `share` is from 0 to 1."""
        if fence != self._fence or (share is not None and self._samples and share < self._samples[-1][1]):
            self._samples.clear()
            self._fence = fence
        if share is not None and (not self._samples or share > self._samples[-1][1]):
            self._samples.append((at, share))

    @property
    def per_second(self) -> float | None:
        """Share of the work done per second; None until it has been seen to grow."""
        if not self._samples:
            return None
        (begun_at, begun), (last_at, last) = self._samples[0], self._samples[-1]
        elapsed_s = (last_at - begun_at).total_seconds()
        return (last - begun) / elapsed_s if elapsed_s > 0 else None

    def left(self, *, at: datetime) -> timedelta | None:
        """Say how long it has to go; None when that is not known."""
        rate = self.per_second
        if not rate:
            return None
        last_at, last = self._samples[-1]
        seconds = (1 - last) / rate - (at - last_at).total_seconds()
        return min(timedelta(seconds=max(seconds, 0.0)), _LONGEST) if seconds < _LONGEST.total_seconds() else _LONGEST
