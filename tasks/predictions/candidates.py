"""Which values could be the next one: those of the entity itself, those usual in its context, those usual at all.

Ranked by decayed use: each use is worth half as much for every half-life since. Worths are kept as they would be at one
fixed instant, which all shrink alike and therefore compare as at any other; so a use changes the rank of one value
alone, and the first few of each group are kept in order as uses come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.predictions.past import DAY_S, Candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.events import Events

MOST: Final = 8
"""Best values of a group that are candidates: more made no model better on the data tried, and each costs a row."""
_RECENT: Final = 3
"""Newest values of an entity that are candidates in any case."""
_USUAL: Final = 3
"""Of them, at most this many that the entity never had."""
_HALF_LIFE_DAYS: Final = 30.0
_US_A_DAY: Final = DAY_S * 1e6


@dataclass(slots=True)
class _Ranking:
    """The values of a group, the most used first: log2 of their worth at the fixed instant."""

    worth: dict[int, float] = field(default_factory=dict)
    first: list[int] = field(default_factory=list)
    """The best of them, in order."""
    recent: tuple[int, ...] = ()
    """The newest ones, different, the newest first: a value used but once may be what comes again."""

    def use(self, value: int, log_weight: float) -> None:
        old = self.worth.get(value)
        new = log_weight if old is None else _log_sum(old, log_weight)
        self.worth[value] = new
        if not self.recent or self.recent[0] != value:
            self.recent = (value, *(one for one in self.recent if one != value))[:_RECENT]
        first, worth = self.first, self.worth
        if value in first:
            place = first.index(value)
        elif len(first) < MOST:
            first.append(value)
            place = len(first) - 1
        elif worth[first[-1]] < new:
            first[-1] = value
            place = MOST - 1
        else:
            return
        while place and worth[first[place - 1]] < new:
            first[place - 1], first[place] = first[place], first[place - 1]
            place -= 1


def choose_candidates(past: Events, asked: Events) -> Candidates:
    """Choose for each row of `asked` the values that `past` suggests at its instant, strictly from what was before.

    Both are in the order of time and share their vocabularies.
    """
    rows: list[int] = []
    values: list[int] = []
    rankings = _Rankings()
    taught = past.taught
    uses = zip(
        *(column[taught].tolist() for column in (past.at_us, past.entity, past.context, past.value)), strict=True
    )
    use = next(uses, None)
    questions = zip(*(column.tolist() for column in (asked.at_us, asked.entity, asked.context)), strict=True)
    for row, (at_us, entity, context) in enumerate(questions):
        while use is not None and use[0] < at_us:
            rankings.use(*use)
            use = next(uses, None)
        found = rankings.candidates(entity, context)
        rows += [row] * len(found)
        values += found
    return _as_arrays(asked, rows, values)


@dataclass(slots=True)
class _Rankings:
    entities: dict[int, _Ranking] = field(default_factory=dict)
    contexts: dict[int, _Ranking] = field(default_factory=dict)
    all: _Ranking = field(default_factory=_Ranking)

    def use(self, at_us: int, entity: int, context: int, value: int) -> None:
        log_weight = at_us / _US_A_DAY / _HALF_LIFE_DAYS
        self.entities.setdefault(entity, _Ranking()).use(value, log_weight)
        self.contexts.setdefault(context, _Ranking()).use(value, log_weight)
        self.all.use(value, log_weight)

    def candidates(self, entity: int, context: int) -> list[int]:
        own = self.entities.get(entity)
        found = [] if own is None else [*own.first, *(one for one in own.recent if one not in own.first)]
        most = min(len(found) + _USUAL, max(MOST, len(found)))
        for ranking in (self.contexts.get(context), self.all):
            if len(found) >= most:
                break
            if ranking is not None:
                found += [value for value in ranking.first if value not in found][: most - len(found)]
        return found


def _log_sum(one: float, other: float) -> float:
    greater, less = (one, other) if one >= other else (other, one)
    return greater + math.log2(1.0 + 2.0 ** (less - greater))


def _as_arrays(asked: Events, rows: list[int], values: list[int]) -> Candidates:
    row: NDArray[np.int64] = np.array(rows, dtype=np.int64)
    columns = {"entity": asked.entity[row], "context": asked.context[row], "value": np.array(values, dtype=np.int64)}
    columns |= {f"part{number}": asked.parts[row, number] for number in range(asked.parts.shape[1])}
    return Candidates(row=row, at_us=asked.at_us[row], columns=columns)
