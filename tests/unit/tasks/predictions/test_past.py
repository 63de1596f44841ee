"""Looking back gives what a slow reading of the whole history gives, and never more."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tasks.predictions.candidates import choose_candidates
from tasks.predictions.events import UNKNOWN
from tasks.predictions.past import Past
from tests.unit.tasks.predictions.uses import DAY_US, drawn_uses, events_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.predictions.past import View
    from tests.unit.tasks.predictions.uses import Use

_BY: dict[str, Callable[[Use, Use], bool]] = {
    "entity": lambda use, asked: use[2] == asked[2],
    "entity,value": lambda use, asked: (use[2], use[4]) == (asked[2], asked[4]),
    "context,value": lambda use, asked: (use[3], use[4]) == (asked[3], asked[4]),
    "part1,value": lambda use, asked: (use[3].split("|")[1], use[4]) == (asked[3].split("|")[1], asked[4]),
}


@pytest.fixture
def history(seed: int) -> list[Use]:
    return drawn_uses(random.Random(seed), 300)


@pytest.mark.parametrize("by", _BY)
def test_counts_ages_and_shares_equal_a_slow_reading(history: list[Use], by: str) -> None:
    """For each candidate of each row, by each kind of group."""
    view, asked = _view(history)
    columns = tuple(by.split(","))
    before = [[use for use in history if use[0] < one[0] and _BY[by](use, one)] for one in asked]
    _assert_equal(view.uses(*columns), [len(found) for found in before])
    _assert_equal(
        view.age_s(*columns),
        [(one[0] - found[-1][0]) / 1e6 if found else np.inf for one, found in zip(asked, before, strict=True)],
    )
    _assert_equal(
        view.decayed_uses(*columns, half_life_days=3.0),
        [
            sum(2 ** (-(one[0] - use[0]) / (3 * DAY_US)) for use in found)
            for one, found in zip(asked, before, strict=True)
        ],
    )


@pytest.mark.parametrize("by", _BY)
def test_outcomes_count_from_the_instant_on_at_which_they_were_known(history: list[Use], by: str) -> None:
    """The newest of them, by that instant; those that nobody ever knew do not count."""
    view, asked = _view(history)
    expected = []
    for one in asked:
        known = [use for use in history if use[1] <= one[0] and use[5] != UNKNOWN and _BY[by](use, one)]
        newest = sorted(known, key=lambda use: use[1])[-4:]
        expected.append((sum(use[5] for use in newest) + 0.25 * 2) / (len(newest) + 2))
    found = view.accepted_share(*by.split(","), last=4, prior=0.25, strength=2)
    # Outcomes that were known at one instant have no order: where the cut goes through such, either is right.
    different = np.flatnonzero(~np.isclose(found, expected))
    for place in different.tolist():
        one = asked[place]
        instants = sorted(use[1] for use in history if use[1] <= one[0] and use[5] != UNKNOWN and _BY[by](use, one))
        assert instants[-5] == instants[-4]


def test_the_newest_use_says_what_it_had(history: list[Use]) -> None:
    """Of several at one instant, the last of them."""
    view, asked = _view(history)
    values = view._past.events.values
    found = [None if number == UNKNOWN else values.texts[number] for number in view.newest("entity", column="value")]
    expected = []
    for one in asked:
        before = [use for use in history if use[0] < one[0] and use[2] == one[2]]
        expected.append(before[-1][4] if before else None)
    assert found == expected


def test_contexts_are_compared_part_by_part(history: list[Use]) -> None:
    """With those of the newest uses of the value by the entity."""
    view, asked = _view(history)
    expected = []
    for one in asked:
        before = [use for use in history if use[0] < one[0] and (use[2], use[4]) == (one[2], one[4])][-3:]
        equal = [
            mine == theirs for use in before for mine, theirs in zip(use[3].split("|"), one[3].split("|"), strict=True)
        ]
        expected.append(sum(equal) / len(equal) if equal else 0.0)
    _assert_equal(view.same_context("entity", "value", last=3), expected)


def test_long_histories_keep_their_precision() -> None:
    """Worths of ten years ago are not drowned by those of today."""
    history: list[Use] = [(day * DAY_US, day * DAY_US, "e", "c", "v", 1) for day in range(4_000)]
    view, _ = _view(history)
    found = view.decayed_uses("entity", "value", half_life_days=3.0)
    settled = 1 / (2 ** (1 / 3) - 1)
    assert found[300:] == pytest.approx(settled, rel=1e-9)


def test_nothing_is_known_of_a_stranger() -> None:
    """No uses, no age, no outcomes: the prior."""
    events = events_of([(0, 0, "e", "c", "v", 1), (DAY_US, DAY_US, "stranger", "d", "v", 1)])
    view = Past(events.at(slice(0, 1))).before(choose_candidates(events, events))
    assert view.uses("entity").tolist() == [0]
    assert view.age_s("entity").tolist() == [np.inf]
    assert view.accepted_share("entity", last=5, prior=0.5, strength=1).tolist() == [0.5]
    assert view.newest("entity", column="value").tolist() == [UNKNOWN]


def test_without_a_past_there_is_nothing() -> None:
    """An empty history answers, and gives no candidates."""
    events = events_of([(0, 0, "e", "c", "v", 1)])
    assert len(choose_candidates(events.at(slice(0, 0)), events)) == 0
    candidates = choose_candidates(events, events_of([(DAY_US, DAY_US, "e", "c", "v", 1)]))
    view = Past(events.at(slice(0, 0))).before(candidates)
    assert view.uses("entity").tolist() == [0]
    assert view.decayed_uses("entity", half_life_days=1).tolist() == [0]


def _view(history: Sequence[Use]) -> tuple[View, list[Use]]:
    """Look back from every use; the second is the use itself with the value of each candidate."""
    events = events_of(history)
    candidates = choose_candidates(events, events)
    texts = events.values.texts
    asked: list[Use] = []
    for row, value in zip(candidates.row.tolist(), candidates.columns["value"].tolist(), strict=True):
        at_us, known_at_us, entity, context, _, accepted = history[row]
        asked.append((at_us, known_at_us, entity, context, texts[value], accepted))
    return Past(events).before(candidates), asked


def _assert_equal(found: np.ndarray[tuple[int], np.dtype[np.float64]], expected: Sequence[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
