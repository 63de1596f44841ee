"""Learning from uses: features of the past, a classifier, its calibration, and what it is worth on what came after.

Chronological: the first tenth only fills the past, the model learns up to 70 %, what its scores are worth is measured
on the next 10 %, and the last 20 % judge it. Nothing is shuffled, and the judged part has chosen nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from tasks.errors import PermanentError
from tasks.predictions import measures
from tasks.predictions.candidates import choose_candidates
from tasks.predictions.drift import Reference
from tasks.predictions.features import column_names
from tasks.predictions.past import Past
from tasks.predictions.ranking import ROWS_AT_ONCE, Calibration, Ranker, best_of_rows, joined, matrices
from tasks.predictions.rules import RULES, by_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tasks.predictions.events import Events
    from tasks.predictions.past import Candidates
    from tasks.predictions.ranking import Classifier, Ranked
    from tasks.predictions.rules import Rule

FEWEST_EVENTS: Final = 500
SURE_ACCURACY: Final = 0.995
"""Share of right answers that the threshold is chosen for: a little above what is promised."""
_WARM_UP, _LEARN, _CALIBRATE = 0.1, 0.7, 0.8
_MOST_CANDIDATES: Final = 1_500_000
"""Rows that the trees learn from: the newest. More took longer and made nothing better on the data tried."""
_FEWEST_FOR_STEPS: Final = 1_000
_KNOTS: Final = 200
_GOLDEN_ROWS: Final = 64

_TREES: Final[dict[str, Any]] = {
    "max_iter": 200,
    "learning_rate": 0.06,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 40,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


class NotEnoughEventsError(PermanentError):
    """There are too few uses to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a model is worth on the part that it has not seen, beside the simple rules."""

    rows: int
    top1: measures.Interval
    gain: measures.Interval
    """Over the best simple rule, row by row."""
    best_rule: Rule
    rules: dict[Rule, dict[str, float]]
    log_loss: float
    ece: float
    selective: measures.Selective
    accuracy_at_coverage: dict[str, float]
    reliability: list[dict[str, float]]
    recall: float
    """Share of rows whose value was among the candidates: no model can be above it."""

    @property
    def is_better(self) -> bool:
        """Whether it beats the best simple rule for sure."""
        return self.gain.low > 0

    @property
    def reason(self) -> str:
        """Say in a line what decides."""
        verb = "beats" if self.is_better else "does not beat"
        gain, low, high = (100 * share for share in (self.gain.value, self.gain.low, self.gain.high))
        points = f"{gain:+.2f} points, 95 % between {low:+.2f} and {high:+.2f}"
        return f"it {verb} the best simple rule ({self.best_rule}): {points}"

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `model train --json` documents."""
        return {
            "rows": self.rows,
            "top1": round(self.top1.value, 6),
            "top1_interval": self.top1.to_json(),
            "gain": self.gain.to_json(),
            "best_rule": self.best_rule,
            "baselines": self.rules,
            "log_loss": round(self.log_loss, 6),
            "ece": round(self.ece, 6),
            "selective": self.selective.to_json(),
            "accuracy_at_coverage": self.accuracy_at_coverage,
            "reliability": self.reliability,
            "candidate_recall": round(self.recall, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A model and what is known of it."""

    ranker: Ranker
    judgement: Judgement
    learned_rows: int
    """Candidates that the trees were fitted to."""
    reference: Reference
    """What the columns looked like that it learned from."""
    golden_rows: NDArray[np.float32]
    """Rows of features from the part that judges: whoever loads the model must get the same predictions for them."""
    golden_predictions: NDArray[np.float64]


def learn(events: Events, *, seed: int, tick: Callable[[float, str], None] = lambda _share, _text: None) -> Learned:
    """Learn from uses that all say their value, and judge the result.

    The same events and seed give the same model, to the byte.

    Raises:
        NotEnoughEventsError: there are fewer than 500 of them, or only one value.
    """
    if len(events) < FEWEST_EVENTS:
        msg = f"there are {len(events)} uses; a model needs {FEWEST_EVENTS} at least"
        raise NotEnoughEventsError(msg)
    tick(0.0, "choosing candidates")
    course = _Course.of(events, tick)
    classifier, learned_rows, reference = course.fit(seed)
    tick(0.7, "calibrating")
    later = course.rank_later(classifier)
    calibration = calibrate(later.score[: course.calibrating], course.is_right(later)[: course.calibrating])
    probability = calibration.probability(later.score)
    threshold = measures.choose_threshold(
        probability[: course.calibrating],
        course.is_right(later)[: course.calibrating],
        accuracy=SURE_ACCURACY,
    )
    tick(0.9, "judging")
    golden = course.golden()
    return Learned(
        ranker=Ranker(
            classifier=classifier, part_count=events.parts.shape[1], calibration=calibration, threshold=threshold
        ),
        judgement=course.judge(later, probability, threshold, seed),
        learned_rows=learned_rows,
        reference=reference,
        golden_rows=golden,
        golden_predictions=classifier.predict_proba(golden),
    )


def calibrate(score: NDArray[np.float64], is_right: NDArray[np.bool_]) -> Calibration:
    """Find what scores are worth: steps that only rise where there are many (Zadrozny and Elkan 2002), else one curve.

    Never 0 and never 1: nothing is sure beyond what the number of rows can show.
    """
    least = 0.5 / (len(score) + 1)
    if len(score) >= _FEWEST_FOR_STEPS:
        steps = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(score, is_right)
        scores, shares = steps.X_thresholds_, steps.y_thresholds_
    else:
        # Two events more, one of each kind: a curve through rows that are all right would be a wall.
        curve = LogisticRegression().fit(_log_odds(np.append(score, [0.5, 0.5])), np.append(is_right, [True, False]))
        scores = np.linspace(0.0, 1.0, _KNOTS)
        shares = np.clip(curve.predict_proba(_log_odds(scores))[:, 1], least, 1 - least)
    return Calibration(scores=scores.tolist(), shares=shares.tolist())


@dataclass(frozen=True, kw_only=True)
class _Course:
    """The events in their four parts, and their candidates."""

    events: Events
    candidates: Candidates
    past: Past
    warm_up: int
    learning: int
    """The first row that is not learned from."""
    calibrating: int
    """Rows after it on which the calibration is measured; what follows them judges."""
    tick: Callable[[float, str], None]

    @classmethod
    def of(cls, events: Events, tick: Callable[[float, str], None]) -> _Course:
        warm_up, learning, calibrated = (int(len(events) * share) for share in (_WARM_UP, _LEARN, _CALIBRATE))
        return cls(
            events=events,
            candidates=choose_candidates(events, events),
            past=Past(events),
            warm_up=warm_up,
            learning=learning,
            calibrating=calibrated - learning,
            tick=tick,
        )

    @property
    def part_count(self) -> int:
        return int(self.events.parts.shape[1])

    def fit(self, seed: int) -> tuple[Classifier, int, Reference]:
        """Fit the trees; give them with the number of candidates that they learned from, and what these looked like."""
        matrix, is_value = self._learning_rows()
        if is_value.all() or not is_value.any():
            msg = "every use has the same value, or none was ever used before: there is nothing to learn"
            raise NotEnoughEventsError(msg)
        self.tick(0.4, f"fitting {len(matrix):,} candidates")
        trees = HistGradientBoostingClassifier(**_TREES, random_state=seed)
        # A sum of doubles depends on the order of its parts: one thread, so that the same data give the same bytes.
        with threadpool_limits(1):
            pipeline = Pipeline([("trees", trees)]).fit(matrix, is_value)
        return pipeline, len(matrix), Reference.of(matrix, column_names(self.part_count))

    def golden(self) -> NDArray[np.float32]:
        """Take some rows of features from the end."""
        begin = max(self.learning + self.calibrating, len(self.events) - ROWS_AT_ONCE)
        _, _, matrix = next(iter(matrices(self.past, self.candidates, len(self.events), self.part_count, begin=begin)))
        return matrix[:: max(1, len(matrix) // _GOLDEN_ROWS)][:_GOLDEN_ROWS]

    def rank_later(self, classifier: Classifier) -> Ranked:
        """Rank all rows that were not learned from."""
        blocks = []
        rows = len(self.events)
        for first, some, matrix in matrices(self.past, self.candidates, rows, self.part_count, begin=self.learning):
            scores = classifier.predict_proba(matrix)[:, 1] if len(some) else np.zeros(0)
            blocks.append(best_of_rows(some, scores, first, min(first + ROWS_AT_ONCE, rows)))
        return joined(blocks)

    def is_right(self, later: Ranked) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = later.value == self.events.value[self.learning :]
        return right

    def judge(self, later: Ranked, probability: NDArray[np.float64], threshold: float, seed: int) -> Judgement:
        begin = self.learning + self.calibrating
        truth, at_us = self.events.value[begin:], self.events.at_us[begin:]
        right, said = self.is_right(later)[self.calibrating :], probability[self.calibrating :]
        rules = {rule: (values == self.events.value)[self.learning :] for rule, values in by_rules(self.events).items()}
        best = max(RULES, key=lambda rule: float(rules[rule][self.calibrating :].mean()))
        gain = right.astype(np.float64) - rules[best][self.calibrating :]
        return Judgement(
            rows=len(truth),
            top1=measures.mean_interval(right.astype(np.float64), at_us, seed=seed),
            gain=measures.mean_interval(gain, at_us, seed=seed),
            best_rule=best,
            rules={rule: self._judge_rule(found) for rule, found in rules.items()},
            log_loss=measures.log_loss(said, right),
            ece=measures.calibration_error(said, right),
            selective=measures.selective(said, right, threshold),
            accuracy_at_coverage=measures.at_coverages(said, right),
            reliability=measures.reliability(said, right),
            recall=self._recall(begin),
        )

    def _judge_rule(self, is_right: NDArray[np.bool_]) -> dict[str, float]:
        """Judge a simple rule, which is as sure as it was right in the part before."""
        sure = float(is_right[: self.calibrating].mean()) if self.calibrating else 0.5
        judged = is_right[self.calibrating :]
        chance = np.full(len(judged), sure)
        return {
            "top1": round(float(judged.mean()), 6),
            "log_loss": round(measures.log_loss(chance, judged), 6),
            "ece": round(measures.calibration_error(chance, judged), 6),
        }

    def _recall(self, begin: int) -> float:
        some = self.candidates.between(begin, len(self.events))
        found = some.columns["value"] == self.events.value[some.row]
        return len(np.unique(some.row[found])) / (len(self.events) - begin)

    def _learning_rows(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give the features of the newest candidates before the calibration, and which of them were the value."""
        chosen = self.candidates.between(self.warm_up, self.learning)
        begin = int(chosen.row[-_MOST_CANDIDATES]) if len(chosen) > _MOST_CANDIDATES else self.warm_up
        blocks, is_value = [], []
        for first, some, matrix in matrices(self.past, self.candidates, self.learning, self.part_count, begin=begin):
            blocks.append(matrix)
            is_value.append(some.columns["value"] == self.events.value[some.row])
            self.tick(0.4 * (first - begin) / max(1, self.learning - begin), "computing features")
        return np.concatenate(blocks), np.concatenate(is_value)


def _log_odds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(score, 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(bounded / (1 - bounded)).reshape(-1, 1)
    return odds
