"""A model at work: candidates, what the past says of each, a score for each, and the best of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from tasks.predictions.candidates import choose_candidates
from tasks.predictions.events import UNKNOWN
from tasks.predictions.features import column_names, feature_matrix
from tasks.predictions.past import Past

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tasks.predictions.events import Events
    from tasks.predictions.past import Candidates

ROWS_AT_ONCE: Final = 20_000
"""Rows whose features are in memory at the same time: some 150,000 candidates."""


class Classifier(Protocol):
    """A pipeline of scikit-learn, fitted to two classes: not this value, this value."""

    def predict_proba(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give for each row the probability of each class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a score is worth: the share of rows that were right at it, rising between a few points."""

    scores: Sequence[float]
    shares: Sequence[float]

    def probability(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn scores into probabilities."""
        return np.interp(score, self.scores, self.shares)

    def to_json(self) -> dict[str, Any]:
        """Give it for a manifest."""
        return {"scores": list(self.scores), "shares": list(self.shares)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranker:
    """All that it takes to predict."""

    classifier: Classifier
    part_count: int
    """Parts of a context that the model was taught with."""
    calibration: Calibration
    threshold: float
    """Probability from which a prediction is taken for sure."""

    @property
    def feature_names(self) -> list[str]:
        """Name the columns that the classifier was fitted to."""
        return column_names(self.part_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The best candidate of each row asked about."""

    value: NDArray[np.int64]
    """`UNKNOWN` for a row without candidates."""
    score: NDArray[np.float64]
    """Of the best, as a share of what all candidates of the row scored, if that is more than one."""
    margin: NDArray[np.float64]
    """By which it leads the second."""


def rank(
    ranker: Ranker,
    past: Events,
    asked: Events,
    *,
    tick: Callable[[int], None] = lambda _rows: None,
    look: Callable[[NDArray[np.float32]], None] = lambda _matrix: None,
) -> Ranked:
    """Predict each row of `asked` from what `past` had shown at its instant.

    Both are in the order of time and share their vocabularies. `tick` hears how many rows are done, `look` sees the
    features.
    """
    candidates = choose_candidates(past, asked)
    blocks = []
    for first, some, matrix in matrices(Past(past), candidates, len(asked), ranker.part_count):
        look(matrix)
        scores = ranker.classifier.predict_proba(matrix)[:, 1] if len(some) else np.zeros(0)
        last = min(first + ROWS_AT_ONCE, len(asked))
        blocks.append(best_of_rows(some, scores, first, last))
        tick(last)
    return joined(blocks)


def matrices(
    past: Past, candidates: Candidates, rows: int, part_count: int, *, begin: int = 0
) -> Iterator[tuple[int, Candidates, NDArray[np.float32]]]:
    """Give the features block by block: the first row of the block, its candidates, their matrix."""
    for first in range(begin, rows, ROWS_AT_ONCE):
        some = candidates.between(first, min(first + ROWS_AT_ONCE, rows))
        yield first, some, feature_matrix(past.before(some), part_count)


def best_of_rows(candidates: Candidates, scores: NDArray[np.float64], first: int, last: int) -> Ranked:
    """Choose the best candidate of each row from `first` to before `last`; the earlier one where two are equal."""
    value = np.full(last - first, UNKNOWN, dtype=np.int64)
    share, margin = np.zeros(last - first), np.zeros(last - first)
    if len(candidates):
        starts, counts = candidates.rows
        order = np.lexsort((np.arange(len(scores)), -scores, candidates.row))
        best = order[starts]
        second = np.where(counts > 1, scores[order[np.minimum(starts + 1, len(order) - 1)]], 0.0)
        total = np.maximum(np.add.reduceat(scores, starts), 1.0)
        place = candidates.row[best] - first
        value[place] = candidates.columns["value"][best]
        share[place] = scores[best] / total
        margin[place] = (scores[best] - second) / total
    return Ranked(value=value, score=share, margin=margin)


def joined(blocks: Sequence[Ranked]) -> Ranked:
    """Put blocks together."""
    if not blocks:
        return Ranked(value=np.zeros(0, dtype=np.int64), score=np.zeros(0), margin=np.zeros(0))
    return Ranked(
        value=np.concatenate([one.value for one in blocks]),
        score=np.concatenate([one.score for one in blocks]),
        margin=np.concatenate([one.margin for one in blocks]),
    )
