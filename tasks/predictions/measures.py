"""How good predictions were, with intervals.

Events of one day share their weather: intervals come from drawing whole days again (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 8.5, blocks), not single events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 10
DRAWS: Final = 400
COVERAGES: Final = (0.5, 0.7, 0.85, 0.9, 0.95, 1.0)
_DAY_US: Final = 86_400_000_000
_LEAST: Final = 1e-3
"""Probability below which no prediction is counted, so that one wrong one cannot cost without bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with the range in which it lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Give it rounded to what it can bear."""
        return {"value": _rounded(self.value), "low": _rounded(self.low), "high": _rounded(self.high)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selective:
    """What a threshold of probability gives: how many rows are answered, and how many of these rightly."""

    threshold: float
    coverage: float
    accuracy: float | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        accuracy = None if self.accuracy is None else _rounded(self.accuracy)
        return {"threshold": _rounded(self.threshold), "coverage": _rounded(self.coverage), "accuracy": accuracy}


def log_loss(probability: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Give the mean cost of having said these probabilities, in nats."""
    bounded = np.clip(probability, _LEAST, 1 - _LEAST)
    return float(-np.log(np.where(is_right, bounded, 1 - bounded)).mean())


def calibration_error(probability: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Give the expected calibration error: the mean distance between said and true share in ten bins (Naeini 2015)."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    said = np.bincount(place, weights=probability, minlength=BINS)
    right = np.bincount(place, weights=is_right, minlength=BINS)
    return float(np.abs(said - right).sum() / max(1, rows.sum()))


def reliability(probability: NDArray[np.float64], is_right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Give the bins of the calibration error that hold something, for a plot."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    found = []
    for number in np.unique(place):
        chosen = place == number
        said, share = float(probability[chosen].mean()), float(is_right[chosen].mean())
        found.append({"rows": int(chosen.sum()), "said": _rounded(said), "right": _rounded(share)})
    return found


def selective(probability: NDArray[np.float64], is_right: NDArray[np.bool_], threshold: float) -> Selective:
    """Tell what answering only from a threshold on gives."""
    answered = probability >= threshold
    accuracy = float(is_right[answered].mean()) if answered.any() else None
    return Selective(threshold=threshold, coverage=float(answered.mean()), accuracy=accuracy)


def at_coverages(probability: NDArray[np.float64], is_right: NDArray[np.bool_]) -> dict[str, float]:
    """Give the accuracy among the surest rows, for some shares of them."""
    order = np.argsort(-probability, kind="stable")
    return {
        f"{share:g}": _rounded(float(is_right[order[: max(1, round(share * len(order)))]].mean()))
        for share in COVERAGES
    }


def choose_threshold(probability: NDArray[np.float64], is_right: NDArray[np.bool_], *, accuracy: float) -> float:
    """Choose the lowest threshold from which on at least this share is right; 1 where there is none."""
    order = np.argsort(-probability, kind="stable")
    ordered = probability[order]
    share = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(ordered[1:] < ordered[:-1], True)  # rows of one probability are answered together, or none is
    good = np.flatnonzero((share >= accuracy) & ends)
    return float(ordered[good[-1]]) if good.size else 1.0


def mean_interval(numbers: NDArray[np.float64], at_us: NDArray[np.int64], *, seed: int) -> Interval:
    """Give a mean with its interval, by drawing days again; single events where there are only a few days."""
    days = np.unique(at_us // _DAY_US, return_inverse=True)[1]
    if days.max(initial=0) < BINS:
        days = np.arange(len(numbers))
    sums, counts = np.bincount(days, weights=numbers), np.bincount(days)
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(DRAWS, min(len(sums), 1_000)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(value=float(numbers.mean()), low=float(low), high=float(high))


def _rounded(number: float) -> float:
    return round(number, 6)
