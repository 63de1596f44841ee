"""What is learned, what it is worth, and that the judge has not been bribed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tasks.predictions import measures
from tasks.predictions.drift import ALERT, Reference
from tasks.predictions.events import UNKNOWN
from tasks.predictions.learning import NotEnoughEventsError, calibrate, learn
from tasks.predictions.ranking import rank
from tasks.predictions.rules import by_rules
from tests.unit.tasks.predictions.uses import DAY_US, drawn_uses, events_of


def test_rules_say_what_a_reader_of_the_history_would(seed: int) -> None:
    """The value used last, and most; of strangers, what anybody used."""
    history = drawn_uses(random.Random(seed), 200)
    events = events_of(history)
    said = by_rules(events)
    for row, (at_us, _, entity, *_) in enumerate(history):
        before = [use for use in history if use[0] < at_us]
        own = [use[4] for use in before if use[2] == entity] or [use[4] for use in before]
        last, most = (said[rule][row] for rule in ("last_used", "most_frequent"))
        if not own:
            assert last == most == UNKNOWN
            continue
        assert events.values.texts[last] == own[-1]
        assert own.count(events.values.texts[most]) == max(own.count(value) for value in own)


def test_what_goes_by_place_is_learned_where_no_rule_sees_it(seed: int) -> None:
    """And the interval of the gain says so."""
    learned = learn(events_of(_by_place(seed, 1_500, noise=0.0)), seed=1)
    judged = learned.judgement
    assert judged.top1.value > 0.95
    assert judged.is_better
    assert judged.gain.low > 0.2
    assert judged.recall == 1.0
    assert "beats the best simple rule" in judged.reason


def test_noise_is_not_better_than_a_rule(seed: int) -> None:
    """Whatever luck the last fifth has: the interval holds zero."""
    chance = random.Random(seed)
    history = [(row * 10**9, row * 10**9, f"e{row % 3}", "c", f"v{chance.randrange(4)}", 1) for row in range(1_500)]
    judged = learn(events_of(history), seed=1).judgement
    assert abs(judged.gain.value) < 0.15
    assert not judged.is_better or judged.gain.value > 0


def test_the_part_that_judges_chooses_nothing(seed: int) -> None:
    """Another last fifth, the same model: threshold, calibration and trees do not change by a bit."""
    history = _by_place(seed, 1_500, noise=0.1)
    cut = int(0.8 * len(history))
    others = [(*use[:4], "other", 0) for use in history[cut:]]
    one, other = (learn(events_of([*history[:cut], *rest]), seed=1) for rest in (history[cut:], others))
    assert one.ranker.threshold == other.ranker.threshold
    assert one.ranker.calibration == other.ranker.calibration
    rows = one.golden_rows
    assert np.array_equal(one.ranker.classifier.predict_proba(rows), other.ranker.classifier.predict_proba(rows))
    assert other.judgement.top1.value < 0.05


def test_training_and_serving_give_the_same_predictions(seed: int) -> None:
    """Row by row, asked one at a time."""
    events = events_of(_by_place(seed, 800, noise=0.2))
    ranker = learn(events, seed=1).ranker
    together = rank(ranker, events, events)
    for row in range(700, 720):
        alone = rank(ranker, events, events.at(slice(row, row + 1)))
        assert (alone.value[0], alone.score[0]) == (together.value[row], together.score[row])


@pytest.mark.parametrize(
    "history",
    [
        [],
        [(row, row, "e", "c", "v", 1) for row in range(499)],
        [(row, row, "e", "c", "v", 1) for row in range(600)],
        [(row, row, f"e{row}", f"c{row}", f"v{row}", 1) for row in range(600)],
    ],
    ids=["nothing", "few", "one-value", "never-again"],
)
def test_what_teaches_nothing_is_refused(history: list[tuple[int, int, str, str, str, int]]) -> None:
    """With a reason, instead of a model."""
    if not history:
        history = [(0, 0, "e", "c", "v", 1)]
    with pytest.raises(NotEnoughEventsError):
        learn(events_of(history), seed=1)


@pytest.mark.parametrize("rows", [40, 5_000])
def test_scores_become_the_shares_that_were_right(rows: int, seed: int) -> None:
    """By a curve where there are few, by steps where there are many; never 0 and never 1."""
    chance = np.random.default_rng(seed)
    score = chance.random(rows)
    right = chance.random(rows) < score**2
    said = calibrate(score, right).probability(np.linspace(0, 1, 11))
    assert (np.diff(said) >= 0).all()
    assert 0 < said.min() < said.max() < 1
    if rows > 1_000:
        assert said[5] == pytest.approx(0.25, abs=0.12)


def test_all_right_is_not_sure() -> None:
    """Twenty right answers do not make a certainty."""
    said = calibrate(np.full(20, 0.9), np.ones(20, dtype=bool)).probability(np.array([0.9]))
    assert 0.5 < said[0] < 0.999


def test_measures_on_cases_that_can_be_counted() -> None:
    """Calibration error, selective accuracy, thresholds."""
    said = np.array([0.95, 0.95, 0.85, 0.55, 0.15])
    right = np.array([True, True, False, True, False])
    assert measures.calibration_error(said, right) == pytest.approx((2 * 0.05 + 0.85 + 0.45 + 0.15) / 5)
    assert measures.choose_threshold(said, right, accuracy=1.0) == 0.95
    assert measures.choose_threshold(said, right, accuracy=0.75) == 0.55
    assert measures.choose_threshold(said, ~right, accuracy=1.0) == 1.0
    chosen = measures.selective(said, right, 0.55)
    assert (chosen.coverage, chosen.accuracy) == (0.8, 0.75)
    assert measures.selective(said, right, 1.0).accuracy is None
    assert measures.at_coverages(said, right)["0.5"] == 1.0
    assert sum(one["rows"] for one in measures.reliability(said, right)) == 5


def test_intervals_know_that_days_are_alike() -> None:
    """Events that are the same all day are worth one event a day."""
    at_us = np.repeat(np.arange(40), 100) * DAY_US
    numbers = np.repeat(np.arange(40) % 2, 100).astype(float)
    blocks, single = measures.mean_interval(numbers, at_us, seed=1), measures.mean_interval(numbers, at_us * 0, seed=1)
    assert blocks.high - blocks.low > 4 * (single.high - single.low)


def test_drift_is_told_by_its_size(seed: int) -> None:
    """None between halves of the same, something at half a standard deviation, counted in blocks or at once."""
    chance = np.random.default_rng(seed)
    taught = chance.normal(size=(40_000, 2)).astype(np.float32)
    reference = Reference.from_json(Reference.of(taught[::2], ["a", "b"]).to_json())
    same = reference.counter()
    same.add(taught[1::4])
    same.add(taught[3::4])
    assert same.report()["level"] == "ok"
    shifted = reference.counter()
    shifted.add(taught[:1_000] + np.array([0.0, 0.6], dtype=np.float32))
    report = shifted.report()
    assert report["columns"]["a"]["level"] == "ok"
    assert report["columns"]["b"]["psi"] >= ALERT
    missing = reference.counter()
    missing.add(np.full((600, 2), np.nan, dtype=np.float32))
    assert missing.report()["level"] == "alert"
    few = reference.counter()
    few.add(taught[:10] + 9)
    assert few.report()["level"] == "few"


def _by_place(seed: int, count: int, *, noise: float) -> list[tuple[int, int, str, str, str, int]]:
    chance = random.Random(seed)
    history = []
    for row in range(count):
        person, place = chance.randrange(8), chance.choice("ho")
        number = chance.randrange(4) if chance.random() < noise else (person + (place == "h")) % 4
        at_us = row * DAY_US // 50
        history.append((at_us, at_us, f"p{person}", place, f"v{number}", 1))
    return history
