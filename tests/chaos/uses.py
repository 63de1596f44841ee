"""What the apps of a chaos run count: an endless sequence that a seed repeats, so the right counts are known."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KEYS = 10_000
CONTEXTS = ("", "fr", "EWR|Tue|05")
OUTCOMES = (True, False, None)

_ZIPF_EXPONENT = 1.1
_DRAWN_AT_ONCE = 1_000
# One in so many uses is an amount, or tells its own hour, which takes the slower way through the library.
_RARE = 20
_HOURS_BACK = 30


class Use(NamedTuple):
    """One call of `increment`."""

    key: str
    context: str
    accepted: bool | None
    amount: int
    hours_ago: int
    """0: now, and the call does not say so."""


class Place(NamedTuple):
    """What is counted by itself."""

    key: str
    context: str


class Sums(NamedTuple):
    """Counts of one place."""

    total: int
    accepted: int
    rejected: int


Counts = dict[Place, Sums]


def uses(seed: int) -> Iterator[Use]:
    """Give the uses of one app: keys by Zipf's law, the other fields evenly."""
    chance = random.Random(seed)
    keys = [f"value.{rank}" for rank in range(1, KEYS + 1)]
    weights = list(itertools.accumulate(rank**-_ZIPF_EXPONENT for rank in range(1, KEYS + 1)))
    while True:
        drawn = chance.choices(keys, cum_weights=weights, k=_DRAWN_AT_ONCE)
        contexts = chance.choices(CONTEXTS, k=_DRAWN_AT_ONCE)
        outcomes = chance.choices(OUTCOMES, k=_DRAWN_AT_ONCE)
        rare = chance.choices(range(_RARE), k=_DRAWN_AT_ONCE)
        for key, context, accepted, kind in zip(drawn, contexts, outcomes, rare, strict=True):
            amount = chance.randint(2, 9) if kind == 0 else 1
            yield Use(key, context, accepted, amount, chance.randint(1, _HOURS_BACK) if kind == 1 else 0)


def sums_of(counted: Iterable[Use]) -> Counts:
    """Count the obvious way."""
    total: Counter[Place] = Counter()
    accepted: Counter[Place] = Counter()
    rejected: Counter[Place] = Counter()
    for key, context, outcome, amount, _ in counted:
        place = Place(key, context)
        total[place] += amount
        if outcome is not None:
            (accepted if outcome else rejected)[place] += amount
    return {place: Sums(amount, accepted[place], rejected[place]) for place, amount in total.items()}


def first_uses(seed: int, count: int) -> Iterator[Use]:
    """Give the uses that an app of this seed has counted after so many calls."""
    return itertools.islice(uses(seed), count)


def event_hour(started_at: datetime, use: Use) -> datetime | None:
    """Give what a call says about the hour of a use."""
    return started_at.astimezone(UTC) - timedelta(hours=use.hours_ago) if use.hours_ago else None
