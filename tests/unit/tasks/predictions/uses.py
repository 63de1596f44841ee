"""Uses made up for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.events import UNKNOWN, Events, Vocabulary
from tasks.predictions.reading import split_contexts

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

DAY_US: Final = 86_400_000_000

Use = tuple[int, int, str, str, str, int]
"""Instant and the instant at which the outcome was known (microseconds), entity, context, value, outcome."""


def events_of(uses: Sequence[Use]) -> Events:
    """Make arrays of uses, which must be in the order of time."""
    at_us, known_at_us, entity, context, value, accepted = (list(column) for column in zip(*uses, strict=True))
    entities, entity_numbers = _numbered([str(one) for one in entity])
    values, value_numbers = _numbered([str(one) for one in value])
    contexts, context_numbers = _numbered([str(one) for one in context])
    parts, part_texts = split_contexts(contexts, context_numbers)
    return Events(
        at_us=np.array(at_us, dtype=np.int64),
        known_at_us=np.array(known_at_us, dtype=np.int64),
        entity=entity_numbers,
        value=value_numbers,
        accepted=np.array(accepted, dtype=np.int8),
        context=context_numbers,
        parts=parts,
        entities=entities,
        values=values,
        contexts=contexts,
        part_texts=part_texts,
    )


def drawn_uses(chance: random.Random, count: int, *, entities: int = 6, values: int = 5, days: int = 40) -> list[Use]:
    """Draw uses with many ties in time, late outcomes and some that are never known."""
    instants = sorted(chance.randrange(days * 24) * DAY_US // 24 for _ in range(count))
    return [
        (
            at_us,
            at_us + chance.choice([0, DAY_US // 24, DAY_US, 20 * DAY_US]),
            f"e{chance.randrange(entities)}",
            f"{chance.choice('AB')}|{chance.choice('xyz')}",
            f"v{min(chance.randrange(values), chance.randrange(values))}",
            chance.choice([0, 1, 1, UNKNOWN]),
        )
        for at_us in instants
    ]


def _numbered(texts: Sequence[str]) -> tuple[Vocabulary, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    vocabulary = Vocabulary.of(list(dict.fromkeys(texts)))
    return vocabulary, np.array([vocabulary.numbers[text] for text in texts], dtype=np.int64)
