"""Rounds and medians."""

from __future__ import annotations

import gc
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class WrongCountError(AssertionError):
    """What was counted is not what came out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement."""

    count: int
    seconds: float
    details: Mapping[str, float] = field(default_factory=dict)
    """What else was seen, with the unit in the name."""

    @property
    def rate(self) -> float:
        """Per second."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something that is measured once a round."""

    name: str
    measure: Callable[[], Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All rounds of a contender."""

    name: str
    samples: Sequence[Sample]

    @property
    def rate(self) -> float:
        """The median, per second."""
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the fastest round, per second."""
        rates = [sample.rate for sample in self.samples]
        return min(rates), max(rates)

    def detail(self, name: str) -> float:
        """Give the median of a detail."""
        return statistics.median(sample.details[name] for sample in self.samples)


def take_rounds(contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None]) -> dict[str, Result]:
    """Measure all of them in turn, round by round, so that a busy neighbour bothers all of them alike."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            gc.collect()
            sample = contender.measure()
            samples[contender.name].append(sample)
            tell(f"round {number}/{rounds}  {contender.name}: {sample.rate:,.0f}/s")
    return {name: Result(name=name, samples=taken) for name, taken in samples.items()}


def check_counts(name: str, found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Compare key by key.

    Raises:
        WrongCountError: a count differs.
    """
    if found == expected:
        return
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    shown = ", ".join(f"{key!r}: {found.get(key)} instead of {expected.get(key)}" for key in sorted(wrong)[:3])
    msg = f"{name}: {len(wrong)} counts are wrong, such as {shown}; the sum is {sum(found.values())}"
    raise WrongCountError(msg)
