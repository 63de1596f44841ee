"""How far a piece of work is, and how long it still takes, in words for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_SMOOTHING_S: Final = 10.0
"""What happened this long ago counts about a third of what happens now."""

_SOONEST_S: Final = 2.0
"""Before this, a forecast is a guess that would jump about."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1_000
_ROUNDS_UP: Final = 999.5
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a piece of work goes: a mean of its speeds that forgets the old ones (exponential smoothing)."""

    began_s: float
    """Of a clock that never goes back, as all seconds here."""
    seen_s: float
    done: int = 0
    per_s: float | None = None
    """None before anything was done."""

    @classmethod
    def start(cls, now_s: float, *, done: int = 0) -> Pace:
        """Begin with so much done already, however long that took."""
        return cls(began_s=now_s, seen_s=now_s, done=done)

    def after(self, done: int, now_s: float) -> Pace:
        """Take in how far it is now. What went backwards (another try) begins a new mean."""
        passed_s = now_s - self.seen_s
        if done < self.done:
            return Pace.start(now_s, done=done)
        if passed_s <= 0 or done == self.done:
            return self  # the speed shows with the next step: the clock of this one goes on
        speed = (done - self.done) / passed_s
        if self.per_s is not None:
            old = _SMOOTHING_S / (_SMOOTHING_S + passed_s)
            speed = old * self.per_s + (1 - old) * speed
        return replace(self, seen_s=now_s, done=done, per_s=speed)

    def left_s(self, total: int, now_s: float) -> float | None:
        """Forecast the seconds until `total` is done; None while that would be a guess."""
        if not self.per_s or now_s - self.began_s < _SOONEST_S:
            return None
        return max(0.0, (total - self.done) / self.per_s - (now_s - self.seen_s))


def progress_text(phase: str, done: int, total: int | None, *, left_s: float | None) -> str:
    """Say it in one line: `capture database 42 % of 850 MB, eta 12 s`."""
    if not total:
        return f"{phase} {bytes_text(done)}" if done else phase
    share = min(done / total, 1.0)
    eta = "" if left_s is None or share >= 1 else f", eta {seconds_text(left_s)}"
    return f"{phase} {share:.0%} of {bytes_text(total)}{eta}".replace("%", " %")


def bytes_text(count: int) -> str:
    """Give a size with three significant digits and its unit (SI): `850 MB`, `1.25 GB`, `0 B`."""
    size, unit = float(count), 0
    while size >= _ROUNDS_UP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"


def seconds_text(seconds: float) -> str:
    """Give a duration in its two largest units: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = max(1, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
