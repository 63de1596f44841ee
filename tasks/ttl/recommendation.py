"""Which time to live is cheapest, and whether that is proven: chosen on the first half of what is known, judged after.

A change is advised only if the part of the cost that it saves on the half it has never seen is more than 2 %, and the
interval of that saving excludes none at all. The interval comes from drawing blocks of time with replacement, as
requests near each other depend on each other (Künsch 1989), and the sampled keys with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tasks.ttl.costs import Conditions, Period, bill, bills
from tasks.ttl.staleness import longest_ttl_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.ttl.costs import Bill
    from tasks.ttl.replay import Mode
    from tasks.ttl.sampling import Sample

Verdict = Literal["change", "keep", "descriptive"]

DRAWS: Final = 200
WORTHWHILE: Final = 0.02
"""Share of the cost that a change has to save."""
_BLOCKS: Final = 12
"""Of each half; an hour each when a day was logged."""
_KNOWN_SHARE: Final = 0.5
"""Of the span: beyond it too many lives are cut off by its ends."""
_FEWEST_REQUESTS: Final = 1_000
_INTERVAL: Final = (0.025, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a time to live may be, whatever it would save."""

    shortest_ms: int = 1_000
    longest_ms: int | None = None
    stale_share: float | None = None
    """Of the hits, that may be out of date."""
    evicted_after_ms: int | None = None
    """How long an entry lies unused before memory runs out and it goes anyway; None while nothing is evicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A time to live above which none is advised."""

    ttl_ms: int
    why: str
    is_rule: bool = False
    """Whether it holds for the present time to live as well, rather than being where knowledge ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What was found on the half that nothing was chosen by."""

    current_cost_per_hour: float
    recommended_cost_per_hour: float
    saving: float
    """Share of the current cost."""
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What is advised, and why."""

    verdict: Verdict
    ttl_ms: int | None
    """None when nothing can be advised."""
    reasons: Sequence[str]
    ceilings: Sequence[Ceiling] = field(default=())
    held_out: HeldOut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a sample."""

    mode: Mode
    current_ms: int | None
    """The time to live now; None for none."""
    ttls_ms: Sequence[int]
    """From which one is chosen."""
    conditions: Conditions
    limits: Limits
    seed: int


def recommend(sample: Sample, question: Question) -> Recommendation:
    """Choose a time to live, and see whether it is worth a change."""
    ceilings = ceilings_of(sample, question)
    if sample.requests < _FEWEST_REQUESTS:
        reason = f"{sample.requests} requests are too few for advice, which begins at {_FEWEST_REQUESTS:,}"
        return Recommendation(verdict="descriptive", ttl_ms=None, reasons=[reason], ceilings=ceilings)
    highest = min(one.ttl_ms for one in ceilings)
    usable = sorted({ttl for ttl in question.ttls_ms if question.limits.shortest_ms <= ttl <= highest})
    if question.current_ms is not None and question.current_ms <= highest:
        usable = sorted({*usable, question.current_ms})
    if not usable:
        reason = f"no time to live is left below the ceiling of {highest / 1_000:g} s"
        return Recommendation(verdict="descriptive", ttl_ms=None, reasons=[reason], ceilings=ceilings)
    first, second = halves(sample)
    # What is only compared by its sum needs no blocks.
    whole = Period(from_ms=first.from_ms, to_ms=first.to_ms, block_ms=first.to_ms - first.from_ms)
    trained = bills(sample, usable, question.mode, question.conditions, whole)
    chosen = usable[int(np.argmin([one.cost_per_hour for one in trained]))]
    return _judged(sample, question, chosen, ceilings, second)


def halves(sample: Sample) -> tuple[Period, Period]:
    """Split the span in the middle."""
    begin, end = int(sample.trace.at_ms[0]), int(sample.trace.at_ms[-1]) + 1
    middle = (begin + end) // 2
    block_ms = max(1, -(-(end - middle) // _BLOCKS))
    return (
        Period(from_ms=begin, to_ms=middle, block_ms=block_ms),
        Period(from_ms=middle, to_ms=end, block_ms=block_ms),
    )


def ceilings_of(sample: Sample, question: Question) -> list[Ceiling]:
    """Give what bounds the time to live, the lowest first; there is always one."""
    limits, updates = question.limits, question.conditions.updates_per_key_hour
    known_ms = max(1_000, int(sample.trace.span_ms * _KNOWN_SHARE))
    found = [Ceiling(ttl_ms=known_ms, why="half of the time that was logged: beyond it nobody knows")]
    if limits.longest_ms is not None:
        found.append(Ceiling(ttl_ms=limits.longest_ms, why="the longest that is allowed", is_rule=True))
    if limits.evicted_after_ms is not None:
        why = "memory is full, and what lies unused that long is evicted anyway"
        found.append(Ceiling(ttl_ms=limits.evicted_after_ms, why=why))
    if limits.stale_share is not None and updates > 0:
        ttl_ms = longest_ttl_ms(updates, limits.stale_share)
        found.append(
            Ceiling(ttl_ms=ttl_ms, why=f"{limits.stale_share:.1%} of the hits may be out of date", is_rule=True)
        )
    return sorted(found, key=lambda one: one.ttl_ms)


def _judged(
    sample: Sample, question: Question, chosen: int, ceilings: Sequence[Ceiling], second: Period
) -> Recommendation:
    reasons = _warnings(question)
    current_ms = question.current_ms
    if current_ms is None:
        reasons.insert(0, "cheapest on the first half; no time to live is set now that it could be compared with")
        return Recommendation(verdict="descriptive", ttl_ms=chosen, reasons=reasons, ceilings=ceilings)
    if chosen == current_ms:
        reasons.insert(0, "the present one is the cheapest of those that were tried")
        return Recommendation(verdict="keep", ttl_ms=current_ms, reasons=reasons, ceilings=ceilings)
    held_out = compare(sample, question, chosen, second)
    if broken := [one for one in ceilings if one.is_rule and current_ms > one.ttl_ms]:
        reasons.insert(0, f"the present one is above the ceiling of {broken[0].ttl_ms / 1_000:g} s: {broken[0].why}")
        return Recommendation(verdict="change", ttl_ms=chosen, reasons=reasons, ceilings=ceilings, held_out=held_out)
    if held_out.low > 0 and held_out.saving > WORTHWHILE:
        reasons.insert(0, f"saves {_of(held_out)} of the cost on the half of the time that it was not chosen by")
        return Recommendation(verdict="change", ttl_ms=chosen, reasons=reasons, ceilings=ceilings, held_out=held_out)
    if current_ms > ceilings[0].ttl_ms:
        reasons.append(f"the present one is above the ceiling of {ceilings[0].ttl_ms / 1_000:g} s: {ceilings[0].why}")
    reasons.insert(0, f"{chosen / 1_000:g} s would save {_of(held_out)} of the cost: not proven, or not worth a change")
    return Recommendation(verdict="keep", ttl_ms=current_ms, reasons=reasons, ceilings=ceilings, held_out=held_out)


def _of(held_out: HeldOut) -> str:
    return f"{held_out.saving:.1%} ({held_out.low:.1%} to {held_out.high:.1%})"


def _warnings(question: Question) -> list[str]:
    if question.mode == "sliding" and question.conditions.updates_per_key_hour > 0:
        return ["a key that is asked for often enough never expires while each hit starts its time anew: invalidate it"]
    return []


def compare(sample: Sample, question: Question, other_ms: int, period: Period) -> HeldOut:
    """Say what another time to live than the present one would save in a period.

    Raises:
        ValueError: there is no present one.
    """
    if question.current_ms is None:
        msg = "there is no time to live to compare with"
        raise ValueError(msg)
    now = bill(sample, question.current_ms, question.mode, question.conditions, period)
    then = bill(sample, other_ms, question.mode, question.conditions, period)
    low, high = np.quantile(_drawn_savings(now, then, question.seed), _INTERVAL)
    current, recommended = now.cost_per_hour, then.cost_per_hour
    return HeldOut(
        current_cost_per_hour=current,
        recommended_cost_per_hour=recommended,
        saving=1 - recommended / current if current else 0.0,
        low=float(low),
        high=float(high),
    )


def _drawn_savings(now: Bill, then: Bill, seed: int) -> NDArray[np.float64]:
    """Draw blocks of time, and for each draw sampled keys, with replacement."""
    random = np.random.default_rng(seed)
    blocks, keys = len(now.known), len(now.estimated)
    savings = np.zeros(DRAWS)
    for draw in range(DRAWS):
        times = random.multinomial(blocks, np.full(blocks, 1 / blocks))
        drawn = random.poisson(1.0, size=keys)
        before = float(times @ (now.known + drawn @ now.estimated))
        after = float(times @ (then.known + drawn @ then.estimated))
        savings[draw] = 1 - after / before if before > 0 else 0.0
    return savings
