"""Entries of the access log: what apps write, read with suspicion, and added up by hour and family.

The wire form is version 1 of `nightcrew/cache/access.lua`, its body that of `nightcrew.cache._access_batch`. An entry
is taken whole or refused whole: its sender sent it as one, and half of it could not be explained.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final, NoReturn

from nightcrew import wire
from nightcrew.cache._access_batch import decode
from nightcrew.cache._shipping import operations_told
from nightcrew.signing import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nightcrew.cache._access_batch import AccessBatch

RawEntry = tuple[str, "Mapping[bytes, bytes]"]
"""Id and fields of a stream entry."""

BEGINNING: Final = "0-0"
"""The position before the first entry."""

_HOUR_MS: Final = 3_600_000
_MAX_SEQ: Final = 2**63 - 1
_MAX_PRODUCER_CHARACTERS: Final = 64
_MAX_FAMILY_CHARACTERS: Final = 64
_MAX_FAMILIES: Final = 256
_MAX_DIGITS: Final = len(str(wire.MAX_AMOUNT))
_LOGGED: Final = b"logged:"


class MalformedEntryError(ValueError):
    """An entry of the log cannot be read; the text says why, in words for an operator."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Exact sums of one family within one hour; the columns of `cache_hours`."""

    requests: int = 0
    hits: int = 0
    misses: int = 0
    sets: int = 0
    deletes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    dropped: int = 0


COUNTERS: Final = tuple(one.name for one in fields(Tally))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One shipment of one process."""

    id: str
    producer: str
    seq: int
    """Grows with every shipment of this process: what was taken in once is known again by it."""
    batch: AccessBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEntry:
    """An entry that could not be read or written, with the reason: it becomes a dead letter."""

    id: str
    fields: Mapping[bytes, bytes]
    reason: str


@dataclass(slots=True, kw_only=True)
class Counted:
    """What one transaction writes."""

    last_id: str
    """Id of the last entry in it: the offset after it."""
    hours: dict[tuple[int, str], Tally] = field(default_factory=dict)
    """By hour (since 1970-01-01T00Z) and family."""
    told: dict[str, int] = field(default_factory=dict)
    """By family: operations that its readable entries tell of, repeated ones included."""
    sequences: dict[str, int] = field(default_factory=dict)
    """Newest sequence number of each producer in it."""
    rejected: list[RejectedEntry] = field(default_factory=list)
    entries: int = 0
    duplicates: int = 0
    """Entries that repeat a shipment which the counters contain already."""

    def tally(self, hour: int, family: str) -> Tally:
        """Give the sums of a family within an hour, to add to."""
        return self.hours.setdefault((hour, family), Tally())

    def with_dropped(self, dropped: Mapping[str, int], *, hour: int) -> Counted:
        """Give the same with operations that nobody can count any more."""
        copy = replace(self, hours={place: replace(tally) for place, tally in self.hours.items()})
        for family, many in dropped.items():
            copy.tally(hour, family).dropped += many
        return copy


def id_order(entry_id: str) -> tuple[int, int]:
    """Give a sort key for entry ids, which do not sort as text."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def producers_of(raw: Iterable[RawEntry]) -> set[str]:
    """Name the producers of these entries, readable or not."""
    return {told.get(b"p", b"").decode(errors="replace").replace("\0", "") for _, told in raw}


def read_logged(totals: Mapping[bytes, bytes]) -> dict[str, int]:
    """Read how many operations of each family the log was ever told of; what cannot be that is passed over."""
    found: dict[str, int] = {}
    for name, value in sorted(totals.items()):
        family = name.removeprefix(_LOGGED).decode(errors="replace")
        is_count = value.isdigit() and len(value) <= _MAX_DIGITS and int(value) <= wire.MAX_AMOUNT
        if name.startswith(_LOGGED) and is_count and is_family(family) and len(found) < _MAX_FAMILIES:
            found[family] = int(value)
    return found


def is_family(name: str) -> bool:
    """Tell whether a family may be named so: letters, digits, `_` and `-`, as `nightcrew.cache.policy` has it."""
    return 0 < len(name) <= _MAX_FAMILY_CHARACTERS and name.replace("-", "_").isidentifier()


def decode_entry(entry_id: str, told: Mapping[bytes, bytes]) -> Entry:
    """Read one entry.

    Raises:
        MalformedEntryError: anything about it is not as version 1 has it.
    """
    if (version := told.get(b"v")) != b"1":
        _refuse(f"version is {version!r:.40}, this release reads 1")
    try:
        producer = told.get(b"p", b"").decode()
        batch = decode(told.get(b"d", b""))
    except ValueError as error:
        _refuse(f"not readable: {error}")
    if not 0 < len(producer) <= _MAX_PRODUCER_CHARACTERS or "\0" in producer:
        _refuse("producer id is missing or too long")
    return Entry(id=entry_id, producer=producer, seq=_sequence(told.get(b"s", b"")), batch=batch)


def add_up(
    raw: Iterable[RawEntry],
    last_sequences: Mapping[str, int],
    *,
    after: str,
    check: Callable[[Mapping[bytes, bytes]], None],
) -> Counted:
    """Add entries up, which follow the entry `after`.

    `check` raises SignatureError for the fields of an entry that is not to be believed. `last_sequences` has each
    producer's newest shipment that is contained in the counters already; an entry at or below it is passed over.
    """
    counted = Counted(last_id=after)
    for entry_id, told in raw:
        counted.last_id = entry_id
        counted.entries += 1
        try:
            check(told)
            _add(counted, decode_entry(entry_id, told), last_sequences)
        except (SignatureError, MalformedEntryError) as error:
            counted.rejected.append(RejectedEntry(id=entry_id, fields=told, reason=str(error)))
    return counted


def readable(raw: Iterable[RawEntry], *, check: Callable[[Mapping[bytes, bytes]], None]) -> Iterator[AccessBatch]:
    """Give what the entries hold, each shipment once; what cannot be read or believed is passed over."""
    newest: dict[str, int] = {}
    for entry_id, told in raw:
        try:
            check(told)
            entry = decode_entry(entry_id, told)
        except (SignatureError, MalformedEntryError):
            continue
        if entry.seq > newest.get(entry.producer, 0):
            newest[entry.producer] = entry.seq
            yield entry.batch


def reject(raw: RawEntry, reason: str) -> Counted:
    """Pass over one entry, and keep it as a dead letter."""
    entry_id, told = raw
    rejected = RejectedEntry(id=entry_id, fields=told, reason=reason)
    return Counted(last_id=entry_id, rejected=[rejected], entries=1)


def _add(counted: Counted, entry: Entry, last_sequences: Mapping[str, int]) -> None:
    hour = _hour_of(entry)
    for one in entry.batch.families:
        counted.told[one.family] = counted.told.get(one.family, 0) + operations_told(one)
    newest = counted.sequences.get(entry.producer) or last_sequences.get(entry.producer, 0)
    if entry.seq <= newest:
        counted.duplicates += 1
        return
    counted.sequences[entry.producer] = entry.seq
    for one in entry.batch.families:
        tally = counted.tally(hour, one.family)
        for name in COUNTERS:
            setattr(tally, name, getattr(tally, name) + getattr(one, name))


def _hour_of(entry: Entry) -> int:
    """Give the hour in which a batch began, by the clock of the app."""
    hour = entry.batch.started_ms // _HOUR_MS
    newest = int(entry.id.partition("-")[0]) // _HOUR_MS + wire.MAX_FUTURE_HOURS
    if not wire.EARLIEST_EVENT_HOUR <= hour <= newest:
        _refuse(f"hour {hour} lies before 2000 or more than {wire.MAX_FUTURE_HOURS} h after it was logged")
    return hour


def _sequence(text: bytes) -> int:
    if not text.isdigit() or len(text) > len(str(_MAX_SEQ)) or not 0 < (seq := int(text)) <= _MAX_SEQ:
        _refuse(f"sequence number is {text[:40]!r}, not a whole number from 1")
    return seq


def _refuse(reason: str) -> NoReturn:
    raise MalformedEntryError(reason)
