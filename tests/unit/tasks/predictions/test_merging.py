"""Two histories under one set of numbers, each use once."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tasks.predictions.events import UNKNOWN
from tasks.predictions.merging import united, with_shared_numbers
from tests.unit.tasks.predictions.uses import drawn_uses, events_of

if TYPE_CHECKING:
    from tasks.predictions.events import Events

_Told = tuple[int, str, str, str]


@given(seed=st.integers(0, 10_000), shared=st.integers(0, 30))
def test_what_stands_in_both_counts_once(seed: int, shared: int) -> None:
    """Of equal uses as many stay as the history with more of them has."""
    chance = random.Random(seed)
    common, mine, theirs = drawn_uses(chance, shared), drawn_uses(chance, 20, days=3), drawn_uses(chance, 20, days=3)
    one, other = (sorted([*common, *rest]) for rest in (mine, theirs))
    first, second = with_shared_numbers(events_of(one), events_of(other), part_count=2)
    assert _told(united(first, second)) == _counted(one) | _counted(other)


def test_contexts_get_the_parts_that_the_model_knows() -> None:
    """More are left out, fewer are unknown; texts that only one knows have a number all the same."""
    one = events_of([(0, 0, "e", "a|b|c", "v", 1)])
    other = events_of([(1, 1, "f", "d", "w", 1)])
    first, second = with_shared_numbers(one, other, part_count=2)
    assert first.parts.shape == second.parts.shape == (1, 2)
    assert second.parts[0, 1] == UNKNOWN
    assert second.entities.texts[second.entity[0]] == "f"
    wide, _ = with_shared_numbers(other, other, part_count=4)
    assert wide.parts.shape == (1, 4)


def _told(events: Events) -> Counter[_Told]:
    rows = zip(events.at_us.tolist(), events.entity, events.context, events.value, strict=True)
    texts = (events.entities.texts, events.contexts.texts, events.values.texts)
    return Counter((at_us, *(of[number] for of, number in zip(texts, row, strict=True))) for at_us, *row in rows)


def _counted(uses: list[tuple[int, int, str, str, str, int]]) -> Counter[_Told]:
    return Counter((use[0], use[2], use[3], use[4]) for use in uses)
