"""Many entries of the log as one batch: the most counting for the fewest rows.

Order matters only around a reset, so a batch is a list of steps: tallies of increments, with resets between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nightcrew.signing import SignatureError
from tasks.usage.entries import Entry, Group, MalformedEntryError, Outcome, Reset, decode_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RawEntry = tuple[str, "Mapping[bytes, bytes]"]
"""Id and fields of a stream entry."""


@dataclass(slots=True)
class Tally:
    """Increments between two resets, added up."""

    hours: dict[tuple[int, str, Outcome], dict[str, int]] = field(default_factory=dict)

    def add(self, group: Group) -> None:
        """Add one group; the tally may keep its dict, since nobody else holds it."""
        place = (group.hour, group.context, group.outcome)
        if (sums := self.hours.get(place)) is None:
            self.hours[place] = group.counts
            return
        _add_counts(sums, group.counts)

    def add_all(self, other: Tally) -> None:
        """Add another tally, which must not be used afterwards."""
        for (hour, context, outcome), counts in other.hours.items():
            self.add(Group(hour, context, outcome, counts))

    def totals(self) -> dict[tuple[str, Outcome], dict[str, int]]:
        """Add the hours up, by context and outcome."""
        sums: dict[tuple[str, Outcome], dict[str, int]] = {}
        shared = set()
        for (_, context, outcome), counts in self.hours.items():
            place = (context, outcome)
            if place not in sums:
                # Nearly always there is one hour, whose dict then is the total: copy it only when a second one comes.
                sums[place] = counts
                shared.add(place)
                continue
            if place in shared:
                sums[place] = dict(sums[place])
                shared.discard(place)
            _add_counts(sums[place], counts)
        return sums

    @property
    def increments(self) -> int:
        """How much was counted."""
        return sum(sum(counts.values()) for counts in self.hours.values())

    @property
    def rows(self) -> int:
        """How many hourly rows this touches at most."""
        return sum(map(len, self.hours.values()))


@dataclass(frozen=True, slots=True)
class TimedReset:
    """A reset with the moment at which it was logged, so that a replay writes the same moment."""

    reset: Reset
    logged_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEntry:
    """An entry that could not be read or written, with the reason: it becomes a dead letter."""

    id: str
    fields: Mapping[bytes, bytes]
    reason: str


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one transaction writes."""

    last_id: str
    """Id of the last entry in it: the offset after it."""
    steps: list[Tally | TimedReset] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)
    """Newest sequence number of each producer in it."""
    rejected: list[RejectedEntry] = field(default_factory=list)
    entry_count: int = 0
    duplicates: list[str] = field(default_factory=list)
    """Ids of entries that retry a flush which the counts contain already."""

    @property
    def increments(self) -> int:
        """How much was counted."""
        return sum(step.increments for step in self.steps if isinstance(step, Tally))

    @property
    def rows(self) -> int:
        """How many hourly rows the batch touches at most."""
        return sum(step.rows for step in self.steps if isinstance(step, Tally))


def _believe(_: Mapping[bytes, bytes]) -> None:
    """Take an entry from whoever wrote it."""


def merge_entries(
    raw: Iterable[RawEntry],
    last_sequences: Mapping[str, int],
    *,
    after: str,
    check: Callable[[Mapping[bytes, bytes]], None] = _believe,
) -> Batch:
    """Merge entries in the order of the log, which follow the entry `after`.

    `check` raises SignatureError for the fields of an entry that is not to be believed.

    `last_sequences` has each producer's newest flush that is contained in the counts already; an entry at or below it
    is a retry of a flush whose answer was lost, and is passed over.
    """
    batch = Batch(last_id=after)
    for entry_id, fields in raw:
        batch.last_id = entry_id
        batch.entry_count += 1
        try:
            check(fields)
            _merge(batch, decode_entry(entry_id, fields), last_sequences)
        except (SignatureError, MalformedEntryError) as error:
            batch.rejected.append(RejectedEntry(id=entry_id, fields=fields, reason=str(error)))
    return batch


def producers_of(raw: Iterable[RawEntry]) -> set[str]:
    """Name the producers of these entries, readable or not."""
    return {fields.get(b"p", b"").decode(errors="replace").replace("\0", "") for _, fields in raw}


def reject_batch(raw: RawEntry, reason: str) -> Batch:
    """Make the batch that passes over one entry and keeps it as a dead letter."""
    entry_id, fields = raw
    rejected = RejectedEntry(id=entry_id, fields=fields, reason=reason)
    return Batch(last_id=entry_id, rejected=[rejected], entry_count=1)


def _merge(batch: Batch, entry: Entry, last_sequences: Mapping[str, int]) -> None:
    newest = batch.sequences.get(entry.producer) or last_sequences.get(entry.producer, 0)
    if entry.seq <= newest:
        batch.duplicates.append(entry.id)
        return
    batch.sequences[entry.producer] = entry.seq
    if isinstance(entry.operation, Reset):
        batch.steps.append(TimedReset(entry.operation, entry.logged_ms))
        return
    if not batch.steps or not isinstance(tally := batch.steps[-1], Tally):
        batch.steps.append(tally := Tally())
    for group in entry.operation:
        tally.add(group)


def _add_counts(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    if sums.keys().isdisjoint(counts):  # told at the first key that is in both; else two passes in C for one in Python
        sums.update(counts)
        return
    get = sums.get
    for key, amount in counts.items():
        sums[key] = get(key, 0) + amount
