"""One entry of the usage log: what apps write, read with suspicion.

The wire form is version 1 of `nightcrew/flush.lua`. An entry is taken whole or refused whole: its sender sent it as
one, and half of it applied could neither be retried nor be explained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, cast

from nightcrew.wire import EARLIEST_EVENT_HOUR, MAX_AMOUNT, MAX_ENTRY_BYTES, MAX_FUTURE_HOURS, MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["a", "r", "n"]
"""Accepted, rejected, or not told."""

BEGINNING: Final = "0-0"
"""The position before the first entry."""

_OUTCOMES: Final = frozenset({"a", "r", "n"})
_GROUP_LENGTH: Final = 4
_MAX_SEQ: Final = 2**63 - 1
_MAX_PRODUCER_CHARACTERS: Final = 64
_HOUR_MS: Final = 3_600_000


class MalformedEntryError(ValueError):
    """An entry of the log cannot be read; the text says why, in words for an operator."""


@dataclass(frozen=True, slots=True)
class Group:
    """Counts that share hour, context and outcome: the unit in which counts travel and are written."""

    hour: int
    """Hours since 1970-01-01T00Z."""
    context: str
    outcome: Outcome
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reset:
    """Set counts back to zero, as of this place of the log; None means every key or every context."""

    key: str | None
    context: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One flush of one producer into one partition."""

    id: str
    producer: str
    seq: int
    """Grows with every flush of this producer: what was applied once is known again by it."""
    operation: list[Group] | Reset

    @property
    def logged_ms(self) -> int:
        """When Redis logged it, in milliseconds since the epoch."""
        return logged_ms(self.id)


def logged_ms(entry_id: str) -> int:
    """Read the time of logging out of an entry's id, in milliseconds since the epoch."""
    return int(entry_id.partition("-")[0])


def id_order(entry_id: str) -> tuple[int, int]:
    """Give a sort key for entry ids, which do not sort as text."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def decode_entry(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry:
    """Read one entry.

    Raises:
        MalformedEntryError: anything about it is not as version 1 has it.
    """
    try:
        return _decode(entry_id, fields)
    except UnicodeError as error:
        _refuse(f"text is not valid UTF-8: {error}")
    except (ValueError, RecursionError) as error:
        if isinstance(error, MalformedEntryError):
            raise
        _refuse(f"not valid JSON: {error}")


def _decode(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry:
    if (version := fields.get(b"v")) != b"1":
        _refuse(f"version is {version!r}, this release reads 1")
    producer = fields.get(b"p", b"").decode()
    if not 0 < len(producer) <= _MAX_PRODUCER_CHARACTERS or "\0" in producer:
        _refuse("producer id is missing or too long")
    operation = fields.get(b"op")
    if len(text := fields.get(b"d", b"")) > MAX_ENTRY_BYTES:
        _refuse(f"body has {len(text)} bytes, at most {MAX_ENTRY_BYTES} are read")
    body = json.loads(text)
    return Entry(
        id=entry_id,
        producer=producer,
        seq=_sequence(fields.get(b"s", b"")),
        operation=_reset(body) if operation == b"reset" else _groups(operation, body, logged_ms(entry_id)),
    )


def _sequence(text: bytes) -> int:
    if not text.isdigit() or len(text) > len(str(_MAX_SEQ)) or not 0 < (seq := int(text)) <= _MAX_SEQ:
        _refuse(f"sequence number is {text[:40]!r}, not a whole number from 1")
    return seq


def _groups(operation: bytes | None, body: Any, at_ms: int) -> list[Group]:
    if operation != b"add":
        _refuse(f"operation is {operation!r}, this release knows add and reset")
    if type(body) is not list or not body:
        _refuse("an add has a list with at least one group")
    newest_hour = at_ms // _HOUR_MS + MAX_FUTURE_HOURS
    return [_group(group, newest_hour) for group in body]


def _group(group: Any, newest_hour: int) -> Group:
    if type(group) is not list or len(group) != _GROUP_LENGTH:
        _refuse("a group is [hour, context, outcome, counts]")
    hour, context, outcome, counts = group
    if type(hour) is not int or not EARLIEST_EVENT_HOUR <= hour <= newest_hour:
        _refuse(f"hour {str(hour)[:40]} lies before 2000 or more than {MAX_FUTURE_HOURS} h after it was logged")
    check_text(context, "context")
    if type(outcome) is not str or outcome not in _OUTCOMES:
        _refuse(f"outcome is {str(outcome)[:40]!r}, not a, r or n")
    _check_counts(counts)
    return Group(hour, context, cast("Outcome", outcome), counts)


def _check_counts(counts: Any) -> None:
    """Check all keys and amounts of a group by a few passes in C: this stands in the way of every count."""
    if type(counts) is not dict or not counts:
        _refuse("a group has at least one key")
    if "" in counts:
        _refuse("a key is empty")
    joined = "".join(counts)
    if "\0" in joined:
        _refuse("a key holds a NUL")
    # UTF-8 takes at most four bytes a character: only where that could pass the limit is each key measured.
    joined.encode()
    if max(map(len, counts)) * 4 > MAX_KEY_BYTES and max(len(key.encode()) for key in counts) > MAX_KEY_BYTES:
        _refuse(f"a key is longer than {MAX_KEY_BYTES} bytes")
    amounts = counts.values()
    if set(map(type, amounts)) != {int}:
        _refuse("an amount is not a whole number")
    if min(amounts) < 1 or max(amounts) > MAX_AMOUNT:
        _refuse(f"an amount is not within 1 and {MAX_AMOUNT}")


def _reset(body: Any) -> Reset:
    if type(body) is not dict or body.keys() != {"key", "context"}:
        _refuse("a reset has a key and a context, either of which may be null")
    if (key := body["key"]) is not None:
        check_text(key, "key")
        if not key:
            _refuse("the key of a reset is empty")
    if (context := body["context"]) is not None:
        check_text(context, "context")
    return Reset(key, context)


def check_text(value: Any, name: str) -> None:
    """Refuse what cannot be the text of a key or context.

    Raises:
        MalformedEntryError: it is no text, too long, or holds what no database can keep.
    """
    if type(value) is not str or "\0" in value or len(value.encode()) > MAX_KEY_BYTES:
        _refuse(f"{name} is not text of at most {MAX_KEY_BYTES} bytes without NUL")


def _refuse(reason: str) -> NoReturn:
    raise MalformedEntryError(reason)
