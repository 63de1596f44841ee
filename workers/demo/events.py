"""The events that the demo counts: `data/events.csv.gz`, described in `data/README.md`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COLUMNS = ("ts", "known_at", "entity", "context", "value", "accepted")
_OUTCOMES = {"1": True, "0": False}


class MalformedEventsError(PermanentError):
    """The file is not one of events, or not the one that its checksum names; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One use of a default value."""

    at: datetime
    """When the value was used."""
    known_at: datetime
    """When it was known whether it was right; nothing may learn from `accepted` earlier."""
    entity: str
    context: str
    value: str
    accepted: bool

    @property
    def key(self) -> str:
        """What is counted: this value of this entity."""
        return f"{self.entity}/{self.value}"


def read_events(path: Path) -> Iterator[Event]:
    """Read gzipped events in the order of time, after comparing the file with `SHA256SUMS` beside it.

    The checksum is compared when the first event is asked for, before it is given.

    Raises:
        MalformedEventsError: the checksum differs or is not there, or a line is not an event.
        OSError: a file cannot be read.
    """
    packed = path.read_bytes()
    _verify_checksum(packed, path)
    with gzip.open(io.BytesIO(packed), "rt", encoding="utf-8", newline="") as lines:
        yield from _parse(lines, path)


def _verify_checksum(packed: bytes, path: Path) -> None:
    sums = path.with_name("SHA256SUMS")
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines())
    listed = {name: digest for digest, name in lines}
    found = hashlib.sha256(packed).hexdigest()
    if listed.get(path.name) != found:
        msg = f"{path} has SHA-256 {found}, but {sums} says {listed.get(path.name, 'nothing about it')}"
        raise MalformedEventsError(msg)


def _parse(lines: Iterable[str], path: Path) -> Iterator[Event]:
    rows = csv.reader(lines, strict=True)
    previous: Event | None = None
    try:
        if (header := tuple(next(rows, ()))) != COLUMNS:
            msg = f"the columns are {','.join(header)!r}, expected {','.join(COLUMNS)!r}"
            raise ValueError(msg)  # noqa: TRY301 - becomes an error with the line number like all others
        for row in rows:
            event = _event(row)
            if previous is not None and event.at < previous.at:
                msg = f"{event.at} comes after {previous.at}: events are ordered by time"
                raise ValueError(msg)  # noqa: TRY301 - as above
            yield event
            previous = event
    except (ValueError, csv.Error) as error:
        msg = f"{path}, line {rows.line_num}: {error}"
        raise MalformedEventsError(msg) from error


def _event(row: list[str]) -> Event:
    if len(row) != len(COLUMNS):
        msg = f"{len(row)} columns, expected {len(COLUMNS)}"
        raise ValueError(msg)
    at, known_at, entity, context, value, accepted = row
    if not entity or not value:
        msg = "entity and value must not be empty"
        raise ValueError(msg)
    if accepted not in _OUTCOMES:
        msg = f"accepted must be 0 or 1, not {accepted!r}"
        raise ValueError(msg)
    event = Event(
        at=_utc(at), known_at=_utc(known_at), entity=entity, context=context, value=value, accepted=_OUTCOMES[accepted]
    )
    if event.known_at < event.at:
        msg = f"the outcome was known at {known_at}, before the use at {at}"
        raise ValueError(msg)
    return event


def _utc(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.utcoffset() != timedelta():
        msg = f"{text!r} is not an instant in UTC"
        raise ValueError(msg)
    return instant
