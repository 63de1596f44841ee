"""No feature knows what comes after: whatever happens from an instant on, what was said before stays the same."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tasks.predictions.candidates import choose_candidates
from tasks.predictions.features import FEATURES, column_names, feature_matrix
from tasks.predictions.features.feature import Feature
from tasks.predictions.past import Past
from tests.unit.tasks.predictions.uses import DAY_US, drawn_uses, events_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.events import Events
    from tasks.predictions.features.feature import PartFeature
    from tasks.predictions.past import View

_CUT_US = 20 * DAY_US


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_does_not_change_with_the_future(feature: Feature | PartFeature, seed: int) -> None:
    """Uses from the cut on are moved, exchanged and turned around; outcomes that were not known by then as well."""
    events = events_of(drawn_uses(random.Random(seed), 400))
    assert not _differs(feature, events, seed)


def test_a_feature_that_looks_ahead_is_found(seed: int) -> None:
    """The test above is not blind: counting all uses there will ever be, and outcomes before they are known."""
    events = events_of(drawn_uses(random.Random(seed), 400))
    assert _differs(Feature(name="total", meaning="", compute=_uses_ever), events, seed)
    assert _differs(Feature(name="right", meaning="", compute=_right_ever), events, seed)


def test_candidates_do_not_change_with_the_future(seed: int) -> None:
    """Nor does their order."""
    events = events_of(drawn_uses(random.Random(seed), 400))
    cut = int(np.searchsorted(events.at_us, _CUT_US))
    one, other = (
        choose_candidates(some, some).between(0, cut) for some in (events, _with_another_future(events, seed))
    )
    assert one.columns["value"].tolist() == other.columns["value"].tolist()


def test_what_happens_at_one_instant_is_not_seen_there() -> None:
    """Two uses at once do not know of each other, in whatever order they stand in the file."""
    events = events_of(
        [(0, 0, "e", "c", "a", 1), (DAY_US, DAY_US, "e", "c", "b", 1), (DAY_US, DAY_US, "e", "c", "a", 1)]
    )
    candidates = choose_candidates(events, events)
    assert candidates.row.tolist() == [1, 2]
    matrix = feature_matrix(Past(events).before(candidates), 1)
    assert matrix[0].tolist() == matrix[1].tolist()


def test_each_column_has_a_name() -> None:
    """In the order of the matrix, and no name twice."""
    events = events_of(drawn_uses(random.Random(1), 50))
    names = column_names(2)
    assert len(names) == len(set(names))
    assert feature_matrix(Past(events).before(choose_candidates(events, events)), 2).shape[1] == len(names)
    assert all(feature.meaning for feature in FEATURES)


def _differs(feature: Feature | PartFeature, events: Events, seed: int) -> bool:
    cut = int(np.searchsorted(events.at_us, _CUT_US))
    columns = [_before_cut(feature, some, cut) for some in (events, _with_another_future(events, seed))]
    assert columns[0].size
    return not np.array_equal(columns[0], columns[1])


def _before_cut(feature: Feature | PartFeature, events: Events, cut: int) -> NDArray[np.float32]:
    candidates = choose_candidates(events, events).between(0, cut)
    return feature_matrix(Past(events).before(candidates), 2, [feature])


def _with_another_future(events: Events, seed: int) -> Events:
    """Change all that nobody could know before the cut, and nothing that anybody could."""
    chance = np.random.default_rng(seed)
    later = events.at_us >= _CUT_US
    unknown = events.known_at_us >= _CUT_US
    at_us = np.where(later, _CUT_US + np.sort(chance.integers(0, 60 * DAY_US, len(events))), events.at_us)
    return replace(
        events,
        at_us=at_us,
        known_at_us=np.where(unknown, np.maximum(at_us, _CUT_US) + 5 * DAY_US, events.known_at_us),
        entity=np.where(later, chance.permutation(events.entity), events.entity),
        value=np.where(later, chance.permutation(events.value), events.value),
        accepted=np.where(unknown, 1 - events.accepted.clip(0, 1), events.accepted).astype(np.int8),
    )


def _uses_ever(view: View) -> NDArray[np.float64]:
    values = view._past.events.value
    return np.array([np.count_nonzero(values == value) for value in view.candidates.columns["value"]], dtype=float)


def _right_ever(view: View) -> NDArray[np.float64]:
    events = view._past.events
    right = np.array([events.accepted[events.value == value].mean() for value in range(len(events.values))])
    chosen: NDArray[np.float64] = right[view.candidates.columns["value"]]
    return chosen
