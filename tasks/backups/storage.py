"""How large a vault is, how it grows, when its disk is full, and which part of it is to be read back next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

from tasks.ledger.catching_up import runs_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WINDOW: Final = timedelta(days=30)
"""What is older says little about the growth of today."""
SHORTEST: Final = timedelta(days=2)
"""Within less, a prune or a first full is all that shows."""
FEWEST: Final = 3
KEPT: Final = timedelta(days=400)
"""How long checks and measures are remembered: a year, and the same season before it."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The size of a vault at a moment."""

    measured_at: datetime
    points: int
    stored_bytes: int
    """What the vault takes where it lies."""
    staged_bytes: int
    """What its points were when they were handed over."""
    size_bytes: int
    """What a restore of each of its points would write, added up."""
    free_bytes: int | None
    """What is left on its disk; None where that cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Where a vault is heading."""

    growth_bytes_per_day: float | None
    """Negative while it shrinks; None where it is not known yet."""
    days_until_full: float | None
    """None where nobody can tell, or where it does not grow."""
    reason: str
    """What it was worked out from, or why it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """What deltas, compression and sharing save; each None where there is nothing to divide."""

    compression: float | None
    """Bytes that restores of all points would write, by bytes handed to the vault: deltas and compression at the
    source."""
    dedup: float | None
    """Bytes handed to the vault, by bytes that it takes: what the engine shares between points and compresses. Below 1
    while it holds what was not given back yet."""
    total: float | None
    """The two together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of a vault."""

    checked_at: datetime
    slice: int | None
    """Which slice was read, from 1; None for the structure alone."""
    slices: int | None
    is_sound: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSlice:
    """What of a vault is to be read next."""

    number: int
    """From 1."""
    of: int
    reason: str


def foresee(measures: Iterable[Measure], *, now: datetime) -> Outlook:
    """Work out how a vault grows and when its disk is full.

    The growth is the median of the slopes between all pairs of days of the last 30, the last measure of each day
    (Theil-Sen, https://doi.org/10.1080/01621459.1968.10480934): a prune, a first full or a wrong measure moves it
    little.
    """
    known = sorted((one for one in measures if not runs_ahead(one.measured_at, now=now)), key=_moment)
    recent = _last_of_each_day([one for one in known if one.measured_at > now - WINDOW])
    span = recent[-1].measured_at - recent[0].measured_at if recent else timedelta(0)
    if len(recent) < FEWEST or span < SHORTEST:
        reason = f"not known before there are measures of {FEWEST} days: there are {len(recent)}"
        return Outlook(growth_bytes_per_day=None, days_until_full=None, reason=reason)
    growth = median(_slopes(recent))
    days, reason = _days_until_full(recent[-1], growth)
    since = f"measures of {len(recent)} days since {recent[0].measured_at:%Y-%m-%d}"
    return Outlook(growth_bytes_per_day=growth, days_until_full=days, reason=f"{reason}{since}")


def ratios(measure: Measure) -> Ratios:
    """Say what the vault saves."""
    return Ratios(
        compression=_ratio(measure.size_bytes, measure.staged_bytes),
        dedup=_ratio(measure.staged_bytes, measure.stored_bytes),
        total=_ratio(measure.size_bytes, measure.stored_bytes),
    )


def next_slice(checks: Iterable[Check], slices: int) -> NextSlice | None:
    """Say which slice is to be read next; None if none is ever to be read.

    One a day, all are read within `slices` days. A slice that was found damaged is read again first; one that was
    damaged twice in a row waits for its turn like the others, which would else never be read. Checks with another
    number of slices say nothing of these.
    """
    if slices < 1:
        return None
    read = _by_slice(checks, slices)
    failed = [number for number, history in read.items() if _failed_once(history)]
    if failed:
        number = min(failed, key=lambda failed_one: _moment_of_last(read[failed_one]))
        return NextSlice(number=number, of=slices, reason="it was damaged when it was last read")
    unread = [number for number in range(1, slices + 1) if number not in read]
    if unread:
        return NextSlice(number=unread[0], of=slices, reason="it was never read")
    number = min(read, key=lambda known: (_moment_of_last(read[known]), known))
    return NextSlice(number=number, of=slices, reason=f"last read {_moment_of_last(read[number]):%Y-%m-%d}, before all")


def share_read(checks: Iterable[Check], slices: int, *, now: datetime) -> float | None:
    """Give the share of the slices found sound when last read, within the last `slices` days; None if none is read."""
    if slices < 1:
        return None
    newest = [history[-1] for history in _by_slice(checks, slices).values()]
    return sum(check.is_sound and check.checked_at > now - slices * _DAY for check in newest) / slices


def _days_until_full(newest: Measure, growth: float) -> tuple[float | None, str]:
    if newest.free_bytes is None:
        return None, "nobody can tell what is free there; "
    if growth <= 0:
        return None, "it does not grow; "
    return newest.free_bytes / growth, ""


def _slopes(measures: Sequence[Measure]) -> list[float]:
    return [
        (later.stored_bytes - earlier.stored_bytes) / ((later.measured_at - earlier.measured_at) / _DAY)
        for index, earlier in enumerate(measures)
        for later in measures[index + 1 :]
    ]


def _last_of_each_day(measures: Iterable[Measure]) -> list[Measure]:
    """Take one of each day, so that the hour of a backup says nothing about growth. They come in their order."""
    return list({measure.measured_at.date(): measure for measure in measures}.values())


def _by_slice(checks: Iterable[Check], slices: int) -> dict[int, list[Check]]:
    found: dict[int, list[Check]] = {}
    for check in sorted(checks, key=lambda one: one.checked_at):
        if check.slices == slices and check.slice is not None and 1 <= check.slice <= slices:
            found.setdefault(check.slice, []).append(check)
    return found


def _failed_once(history: Sequence[Check]) -> bool:
    return not history[-1].is_sound and (len(history) == 1 or history[-2].is_sound)


def _moment_of_last(history: Sequence[Check]) -> datetime:
    return history[-1].checked_at


def _moment(measure: Measure) -> datetime:
    return measure.measured_at


def _ratio(above: int, below: int) -> float | None:
    return above / below if below else None
