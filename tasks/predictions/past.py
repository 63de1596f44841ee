"""What had happened before an instant: the only way in which a feature may look at the uses.

A feature asks by group (`("entity", "value")`: uses of this value by this entity) and gets one number for each
candidate. Every answer is about uses strictly before the candidate's instant; an outcome counts from the instant on
at which it was known. So a feature cannot look ahead, whatever it computes.

Each group is sorted once by (group, time); a question is then two binary searches for all candidates at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tasks.predictions.events import UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.predictions.events import Events

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

Column = str
"""`entity`, `value`, `context`, or `part0`, `part1`, … for the parts of the context."""

DAY_S: Final = 86_400.0
_US: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Values that may be the next one, each for one row that is asked about."""

    row: Integers
    """Which of the rows asked about; rows stand together, in their order."""
    at_us: Integers
    columns: dict[Column, Integers]
    """What is asked about, and the value that may be the answer."""

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def rows(self) -> tuple[Integers, Integers]:
        """Give where each row's candidates begin, and how many it has; rows without any are left out."""
        starts = np.flatnonzero(np.diff(self.row, prepend=UNKNOWN))
        return starts, np.diff(np.append(starts, len(self.row)))

    def between(self, first: int, last: int) -> Candidates:
        """Give those of the rows from `first` to before `last`."""
        chosen = slice(*np.searchsorted(self.row, (first, last)).tolist())
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Candidates(row=self.row[chosen], at_us=self.at_us[chosen], columns=columns)


@dataclass(frozen=True)
class Past:
    """The uses that are known, ready to be asked what came before an instant."""

    events: Events
    _sorted: dict[tuple[tuple[Column, ...], bool], _Sorted] = field(default_factory=dict, repr=False)

    def before(self, candidates: Candidates) -> View:
        """Look back from the instants of some candidates."""
        return View(self, candidates)

    def sorted_by(self, columns: tuple[Column, ...], *, known: bool) -> _Sorted:
        """Give the uses in the order of group and time, or of group and the time at which their outcome was known."""
        if (columns, known) not in self._sorted:
            self._sorted[columns, known] = _Sorted.of(self.events, columns, known=known)
        return self._sorted[columns, known]


@dataclass(frozen=True)
class View:
    """What was to be seen of the past from each candidate: one number a candidate, in their order."""

    _past: Past
    candidates: Candidates
    _spans: dict[tuple[tuple[Column, ...], bool], tuple[_Sorted, Integers, Integers]] = field(
        default_factory=dict, repr=False
    )

    def uses(self, *by: Column) -> Floats:
        """Count the uses of the same group."""
        _, start, end = self._span(by)
        counts: Floats = (end - start).astype(np.float64)
        return counts

    def age_s(self, *by: Column) -> Floats:
        """Give the seconds since the newest use of the same group; infinite where there is none."""
        uses, start, end = self._span(by)
        newest = uses.at_us[np.maximum(end - 1, 0)] if len(uses.at_us) else np.zeros(len(end), dtype=np.int64)
        age = (self.candidates.at_us - newest) / _US
        return np.where(end > start, age, np.inf)

    def decayed_uses(self, *by: Column, half_life_days: float) -> Floats:
        """Count the uses of the same group, each worth half as much for every half-life that has passed since."""
        uses, start, end = self._span(by)
        if not len(uses.order):
            return np.zeros(len(end))
        newest = np.maximum(end - 1, 0)
        half_lives = (self.candidates.at_us - uses.at_us[newest]) / (half_life_days * DAY_S * _US)
        return np.where(end > start, uses.decayed(half_life_days)[newest] * np.exp2(-np.maximum(half_lives, 0.0)), 0.0)

    def accepted_share(self, *by: Column, last: int, prior: float, strength: float) -> Floats:
        """Give the share that turned out right among the newest outcomes of the same group that were known by then.

        `prior` is taken for `strength` outcomes more, so that a group without any has that share (Laplace).
        """
        uses, start, end = self._span(by, known=True)
        first = np.maximum(start, end - last)
        right = uses.accepted_sums[end] - uses.accepted_sums[first]
        return (right + prior * strength) / (end - first + strength)

    def newest(self, *by: Column, column: Column) -> Integers:
        """Give what the newest use of the same group had in a column; `UNKNOWN` where there is none."""
        uses, start, end = self._span(by)
        if not len(uses.order):
            return np.full(len(end), UNKNOWN, dtype=np.int64)
        found = _column(self._past.events, column)[uses.order[np.maximum(end - 1, 0)]]
        return np.where(end > start, found, UNKNOWN)

    def same_context(self, *by: Column, last: int) -> Floats:
        """Compare the context with those of the newest uses of the same group: share of equal parts, 0 without uses.

        A stand-in for the similarity of texts where contexts are made of codes.
        """
        uses, start, end = self._span(by)
        parts = [name for name in self.candidates.columns if name.startswith("part")]
        equal = np.zeros(len(end))
        for back in range(1, last + 1):
            place = end - back
            there = place >= start
            rows = uses.order[np.maximum(place, 0)[there]]
            for name in parts:
                equal[there] += _column(self._past.events, name)[rows] == self.candidates.columns[name][there]
        compared = np.minimum(end - start, last) * max(1, len(parts))
        shares: Floats = equal / np.maximum(compared, 1)
        return shares

    def behind_best(self, numbers: Floats) -> Floats:
        """Subtract from each candidate's number the greatest of its row: 0 for the best, negative for all others."""
        if not len(numbers):
            return numbers
        starts, counts = self.candidates.rows
        behind: Floats = numbers - np.repeat(np.maximum.reduceat(numbers, starts), counts)
        return behind

    def per_row(self) -> Integers:
        """Count the candidates of each one's row."""
        _, counts = self.candidates.rows
        return np.repeat(counts, counts)

    def _span(self, by: tuple[Column, ...], *, known: bool = False) -> tuple[_Sorted, Integers, Integers]:
        if (by, known) not in self._spans:
            uses = self._past.sorted_by(by, known=known)
            groups = uses.groups_of(self.candidates.columns)
            self._spans[by, known] = (uses, *uses.span(groups, self.candidates.at_us))
        return self._spans[by, known]


@dataclass(frozen=True, kw_only=True)
class _Sorted:
    """Uses in the order of group and time."""

    by: tuple[Column, ...]
    side: Literal["left", "right"]
    """Whether what happens at the instant itself is before it: a use is not, an outcome known by then is."""
    sizes: tuple[int, ...]
    groups: Integers
    """Every group that there is, sorted."""
    begins: Integers
    """Where each of them begins, and where the last one ends."""
    times: Integers
    """Every instant that there is, sorted."""
    places: Integers
    """For each use its group and its instant as one number."""
    order: Integers
    """For each use its row among the events."""
    at_us: Integers
    accepted_sums: Floats
    _decayed: dict[float, Floats] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, events: Events, by: tuple[Column, ...], *, known: bool) -> _Sorted:
        time = events.known_at_us if known else events.at_us
        chosen = events.taught & (events.accepted != UNKNOWN) if known else events.taught
        sizes = tuple(_size(events, name) for name in by)
        group = _combined([_column(events, name) for name in by], sizes)
        rows = np.flatnonzero(chosen & (group != UNKNOWN))
        rows = rows[np.lexsort((time[rows], group[rows]))]
        groups, begins = np.unique(group[rows], return_index=True)
        times = np.unique(time[rows])
        number = np.repeat(np.arange(len(groups)), np.diff(np.append(begins, len(rows))))
        places = number * (len(times) + 1) + np.searchsorted(times, time[rows])
        right = np.concatenate(([0.0], np.cumsum(events.accepted[rows] == 1)))
        return cls(
            by=by,
            side="right" if known else "left",
            sizes=sizes,
            groups=groups,
            begins=np.append(begins, len(rows)),
            times=times,
            places=places,
            order=rows,
            at_us=time[rows],
            accepted_sums=right,
        )

    def groups_of(self, columns: dict[Column, Integers]) -> Integers:
        return _combined([columns[name] for name in self.by], self.sizes)

    def span(self, group: Integers, at_us: Integers) -> tuple[Integers, Integers]:
        """Give for each question the uses of its group that came before: from the first place to before the second."""
        if not len(self.groups):
            nothing = np.zeros(len(group), dtype=np.int64)
            return nothing, nothing
        number = np.minimum(np.searchsorted(self.groups, group), len(self.groups) - 1)
        there = self.groups[number] == group
        start = self.begins[number]
        time = np.searchsorted(self.times, at_us, side=self.side)
        end = np.searchsorted(self.places, number * (len(self.times) + 1) + time)
        return start, np.where(there, end, start)

    def decayed(self, half_life_days: float) -> Floats:
        """Give for each use what it and the older ones of its group are worth at its instant.

        `worth = 1 + worth of the one before * decay since then`, for all groups at once by doubling the stretch that is
        summed up (Hillis and Steele, "Data parallel algorithms", 1986): as many passes as the longest group has bits.
        """
        if half_life_days not in self._decayed:
            decay = np.zeros(len(self.at_us))
            decay[1:] = np.exp2(-np.maximum(np.diff(self.at_us), 0) / (half_life_days * DAY_S * _US))
            decay[self.begins[:-1]] = 0.0  # nothing of one group is worth anything to the next
            worth = np.ones(len(decay))
            longest = int(np.diff(self.begins).max()) if len(self.groups) else 0
            stretch = 1
            while stretch < longest:
                worth[stretch:] += decay[stretch:] * worth[:-stretch]
                decay[stretch:] *= decay[:-stretch]
                stretch *= 2
            self._decayed[half_life_days] = worth
        return self._decayed[half_life_days]


def _column(events: Events, name: Column) -> Integers:
    if name.startswith("part"):
        return events.parts[:, int(name[4:])]
    found: Integers = getattr(events, name)
    return found


def _size(events: Events, name: Column) -> int:
    if name.startswith("part"):
        return len(events.part_texts[int(name[4:])])
    return len({"entity": events.entities, "value": events.values, "context": events.contexts}[name])


def _combined(columns: list[Integers], sizes: tuple[int, ...]) -> Integers:
    """Give one number for several; `UNKNOWN` where one of them is."""
    group = np.zeros(len(columns[0]) if columns else 0, dtype=np.int64)
    unknown = np.zeros(len(group), dtype=np.bool_)
    for column, size in zip(columns, sizes, strict=True):
        group = group * max(1, size) + column
        unknown |= (column < 0) | (column >= size)
    group[unknown] = UNKNOWN
    return group
