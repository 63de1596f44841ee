"""Whether what a model is asked today still looks like what it was taught with.

Measured by size and not by significance: over many rows any difference is significant (a shift of 0.05 standard
deviations over 100,000 rows gave a Kolmogorov-Smirnov p of 4e-25). The population stability index compares shares of
bins that were fixed at training: below 0.1 nothing, from 0.1 something, from 0.25 much (Siddiqi, "Credit Risk
Scorecards", 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Level = Literal["ok", "warn", "alert", "few"]

WARN: Final = 0.1
ALERT: Final = 0.25
FEWEST_ROWS: Final = 500
"""Fewer cannot be told from chance."""
_BINS: Final = 10
_LEAST_SHARE: Final = 1e-4
_MOST_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Where the bins of one column end, and how many rows fell into each; the last one is for what is missing."""

    edges: Sequence[float]
    counts: Sequence[int]

    @classmethod
    def of(cls, numbers: NDArray[np.float64]) -> Column:
        """Fix bins so that each holds about as many rows."""
        there = numbers[np.isfinite(numbers)]
        edges = np.unique(np.quantile(there, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(there) else np.zeros(0)
        return cls(edges=edges.tolist(), counts=_counts(numbers, edges).tolist())

    def counted(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count other rows by the same bins; counts of several blocks are added up."""
        return _counts(numbers, np.asarray(self.edges))

    def distance(self, counts: NDArray[np.int64]) -> float:
        """Give the population stability index of other rows."""
        then, now = (np.maximum(np.asarray(one) / max(1, sum(one)), _LEAST_SHARE) for one in (self.counts, counts))
        return float(((now - then) * np.log(now / then)).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The columns that a model was taught with."""

    columns: Mapping[str, Column]

    @classmethod
    def of(cls, matrix: NDArray[np.float32], names: Sequence[str]) -> Reference:
        """Take the newest rows of a matrix; one column a name."""
        newest = matrix[-_MOST_ROWS:].astype(np.float64)
        return cls(columns={name: Column.of(newest[:, place]) for place, name in enumerate(names)})

    def counter(self) -> Counter:
        """Begin to count what is asked."""
        return Counter(self)

    def to_json(self) -> list[dict[str, Any]]:
        """Give it for a manifest, in the order of the columns."""
        return [
            {"name": name, "edges": list(column.edges), "counts": list(column.counts)}
            for name, column in self.columns.items()
        ]

    @classmethod
    def from_json(cls, document: Sequence[Mapping[str, Any]]) -> Reference:
        """Read it from one."""
        return cls(columns={one["name"]: Column(edges=one["edges"], counts=one["counts"]) for one in document})


class Counter:
    """Counts rows block by block, so that drift costs no memory in their number."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._counts = {
            name: np.zeros(len(column.counts), dtype=np.int64) for name, column in reference.columns.items()
        }

    def add(self, matrix: NDArray[np.float32]) -> None:
        """Take in some rows."""
        for place, (name, column) in enumerate(self._reference.columns.items()):
            self._counts[name] += column.counted(matrix[:, place].astype(np.float64))

    def report(self) -> dict[str, Any]:
        """Say how far each column is from what it was; `few` where too few rows were counted to say so."""
        found = {name: self._distance(name, column) for name, column in self._reference.columns.items()}
        worst = max((psi for psi, level in found.values() if level != "few"), default=0.0)
        rows = max((int(counts.sum()) for counts in self._counts.values()), default=0)
        columns = {name: {"psi": psi, "level": level} for name, (psi, level) in found.items()}
        return {"rows": rows, "worst": worst, "level": level_of(worst, rows), "columns": columns}

    def _distance(self, name: str, column: Column) -> tuple[float, Level]:
        counts = self._counts[name]
        rows = int(counts.sum())
        psi = round(column.distance(counts), 4) if rows else 0.0
        return psi, level_of(psi, rows)


def level_of(distance: float, rows: int) -> Level:
    """Say what a distance means."""
    if rows < FEWEST_ROWS:
        return "few"
    if distance >= ALERT:
        return "alert"
    return "warn" if distance >= WARN else "ok"


def _counts(numbers: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    there = np.isfinite(numbers)
    place = np.where(there, np.searchsorted(edges, np.where(there, numbers, 0.0), side="right"), len(edges) + 1)
    counts: NDArray[np.int64] = np.bincount(place, minlength=len(edges) + 2)
    return counts
