"""Uses from two places under one set of numbers, each of them once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.events import UNKNOWN, Events, Vocabulary
from tasks.predictions.reading import split_contexts

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads what is multiplied by it


def with_shared_numbers(one: Events, other: Events, *, part_count: int) -> tuple[Events, Events]:
    """Give both with one vocabulary, and contexts of that many parts: more are left out, fewer are unknown."""
    entities, values = _joined(one.entities, other.entities), _joined(one.values, other.values)
    contexts = _joined(one.contexts, other.contexts)
    every = np.arange(len(contexts))
    parts, part_texts = split_contexts(contexts, every)
    missing = part_count - parts.shape[1]
    if missing > 0:
        parts = np.pad(parts, ((0, 0), (0, missing)), constant_values=UNKNOWN)
        part_texts = (*part_texts, *[Vocabulary.of([])] * missing)
    parts, part_texts = parts[:, :part_count], part_texts[:part_count]

    def renumbered(events: Events) -> Events:
        context = _moved(events.context, events.contexts, contexts)
        return replace(
            events,
            entity=_moved(events.entity, events.entities, entities),
            value=_moved(events.value, events.values, values),
            context=context,
            parts=np.concatenate([parts, np.full((1, part_count), UNKNOWN)])[context],
            entities=entities,
            values=values,
            contexts=contexts,
            part_texts=part_texts,
        )

    return renumbered(one), renumbered(other)


def united(one: Events, other: Events) -> Events:
    """Give the uses of both in the order of time, those that stand in both once. Vocabularies must be shared."""
    new = other.at(np.flatnonzero(other.taught & ~_stand_in(other, one)))
    at_us = np.concatenate([one.at_us, new.at_us])
    order = np.argsort(at_us, kind="stable")
    return replace(
        one,
        at_us=at_us[order],
        known_at_us=np.concatenate([one.known_at_us, new.known_at_us])[order],
        entity=np.concatenate([one.entity, new.entity])[order],
        value=np.concatenate([one.value, new.value])[order],
        accepted=np.concatenate([one.accepted, new.accepted])[order],
        context=np.concatenate([one.context, new.context])[order],
        parts=np.concatenate([one.parts, new.parts])[order],
    )


def _joined(one: Vocabulary, other: Vocabulary) -> Vocabulary:
    return Vocabulary.of(list(dict.fromkeys([*one.texts, *other.texts])))


def _moved(numbers: NDArray[np.int64], old: Vocabulary, new: Vocabulary) -> NDArray[np.int64]:
    places = np.array([*(new.numbers[text] for text in old.texts), UNKNOWN], dtype=np.int64)
    return places[numbers]


def _stand_in(events: Events, others: Events) -> NDArray[np.bool_]:
    """Tell which of them stand among others: of equal ones as many as there are."""
    mine, theirs = _marks(events), np.sort(_marks(others))
    order = np.argsort(mine, kind="stable")
    ordered = mine[order]
    number = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)  # which of the equal ones it is
    there = np.searchsorted(theirs, ordered, side="right") - np.searchsorted(theirs, ordered)
    found = np.zeros(len(mine), dtype=np.bool_)
    found[order] = number < there
    return found


def _marks(events: Events) -> NDArray[np.uint64]:
    mark = np.zeros(len(events), dtype=np.uint64)
    for column in (events.at_us, events.entity, events.context, events.value):
        mark = (mark ^ column.astype(np.uint64)) * _MIX
        mark ^= mark >> np.uint64(29)
    return mark
