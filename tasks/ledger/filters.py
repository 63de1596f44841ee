"""Which runs an operator means: one value for listing, retrying and calling off, and how its parts are written."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from tasks.errors import PermanentError
from tasks.ledger.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


class InvalidFilterError(PermanentError):
    """A part of a filter means nothing; the text says how it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What runs must have in common; what is not told may be anything."""

    states: frozenset[State] = frozenset()
    kind: str | None = None
    since: datetime | None = None
    """Last queued at this instant or later."""
    until: datetime | None = None
    """Last queued before this instant."""
    entry: str | None = None
    """Entry of the timetable whose slots they are."""
    correlation_id: str | None = None
    parent_id: str | None = None
    error: str | None = None
    """Text that their error contains, in capitals or not."""

    @property
    def is_empty(self) -> bool:
        """Say whether it lets every run through."""
        return not any(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}
        return ", ".join(f"{name.removesuffix('_id')} {_shown(value)}" for name, value in parts.items()) or "every run"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """What dead letters must have in common; what is not told may be anything."""

    source: str | None = None
    """Queue or stream they came from."""
    kind: str | None = None
    reason: str | None = None
    """Text that their reason contains, in capitals or not."""
    job_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether it lets every letter through."""
        return not any(getattr(self, field.name) for field in fields(self))


def parse_states(names: Iterable[str]) -> frozenset[State]:
    """Read names of states.

    Raises:
        InvalidFilterError: there is no such state.
    """
    return frozenset(map(_parse_state, names))


def parse_moment(text: str, *, now: datetime) -> datetime:
    """Read an instant, or how long ago it was: `2h`, `1d12h`, `2026-03-01`, `2026-03-01T06:30`, `…+02:00`.

    Without an offset an instant is UTC.

    Raises:
        InvalidFilterError: it is neither.
    """
    if _DURATION.fullmatch(text):
        return _back(text, now)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no time: write how long ago (90s, 30m, 2h, 1d12h) or an instant (2026-03-01T06:30, UTC)"
        raise InvalidFilterError(msg) from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def check_filter(wanted: Filter) -> Filter:
    """Give the filter back if any run can pass it.

    Raises:
        InvalidFilterError: it ends before it begins, or a text in it cannot stand in a database.
    """
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        msg = f"since {_shown(wanted.since)} is not before until {_shown(wanted.until)}: nothing lies between them"
        raise InvalidFilterError(msg)
    for text in (wanted.kind, wanted.entry, wanted.correlation_id, wanted.parent_id, wanted.error):
        if text is not None and (not text or "\0" in text):
            msg = f"{text!r} matches nothing: leave the option out, or write what it is to match"
            raise InvalidFilterError(msg)
    return wanted


def _back(text: str, now: datetime) -> datetime:
    try:
        return now - sum((float(count) * _UNITS[unit] for count, unit in _PART.findall(text)), timedelta())
    except OverflowError as error:
        msg = f"{text!r} is longer ago than a calendar reaches"
        raise InvalidFilterError(msg) from error


def _parse_state(name: str) -> State:
    try:
        return State(name)
    except ValueError as error:
        near = get_close_matches(name, list(State), n=1)
        advice = f"did you mean {near[0]}?" if near else f"one of {', '.join(State)}"
        msg = f"no state {name!r}: {advice}"
        raise InvalidFilterError(msg) from error


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    return "/".join(sorted(value)) if isinstance(value, frozenset) else str(value)
