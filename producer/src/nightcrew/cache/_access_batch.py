"""What a process asked of its cache within some seconds, as it travels: exact counters, and a sample of requests.

    byte 1       version of the form, 1
    rest         zlib over compact JSON, see `encode`

A key never travels, only its salted hash. What comes from the log is hostile until it was read: everything is bounded,
and anything that is not as `encode` writes it is refused whole.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, fields
from typing import Any, Final

VERSION: Final = 1
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a batch, unpacked."""
HASH_DIGITS: Final = 16
"""A hash is 64 bits, as text in hex."""
LARGEST_HASH: Final = 2**64 - 1

HIT, MISS, SET, DELETE = range(4)
"""What a record tells of."""

_MOST_FAMILIES: Final = 256
_MOST_RECORDS: Final = 1_000_000
_MOST_NAME: Final = 64
_MOST_COUNT: Final = 2**53 - 1
_LONGEST_MS: Final = 100 * 24 * 3_600_000
_LATEST_MS: Final = 2**53 - 1
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request of a key that is followed."""

    at_ms: int
    """After the beginning of the batch."""
    hash: str
    operation: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyAccess:
    """What was asked of one family."""

    family: str
    requests: int = 0
    hits: int = 0
    misses: int = 0
    sets: int = 0
    deletes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    dropped: int = 0
    """Operations that could not be counted; the sampler itself counts all."""
    threshold: int = LARGEST_HASH
    """Keys with smaller hashes are followed, whoever asks for them."""
    unfollowed: int = 0
    """Requests of followed keys that found no room among the records."""
    hot: tuple[tuple[str, int], ...] = ()
    """Hashes of the keys asked for most within the batch, with their counts."""
    followed: tuple[str, ...] = ()
    """Hashes that are followed because they are hot, whatever the threshold."""
    records: tuple[Record, ...] = ()
    """In the order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessBatch:
    """What was asked between two instants (milliseconds since the epoch, by the clock of the app)."""

    started_ms: int
    ended_ms: int
    families: tuple[FamilyAccess, ...]


_COUNTS: Final = tuple(
    one.name for one in fields(FamilyAccess) if one.name not in {"family", "threshold", "hot", "followed", "records"}
)


def encode(batch: AccessBatch) -> bytes:
    """Write a batch."""
    document = {
        "s": batch.started_ms,
        "e": batch.ended_ms,
        "f": [_family_document(one) for one in batch.families],
    }
    text = json.dumps(document, separators=(",", ":"))
    return bytes([VERSION]) + zlib.compress(text.encode(), _LEVEL)


def decode(content: bytes) -> AccessBatch:
    """Read a batch.

    Raises:
        ValueError: it is none; the text says why.
    """
    if content[:1] != bytes([VERSION]):
        msg = f"form {content[:1]!r}, this release reads {VERSION}"
        raise ValueError(msg)
    try:
        document = json.loads(_unpacked(content[1:]))
        started_ms, ended_ms = _whole(document["s"], _LATEST_MS), _whole(document["e"], _LATEST_MS)
        if not 0 <= ended_ms - started_ms <= _LONGEST_MS:
            msg = "it ends before it begins, or lasts too long"
            raise ValueError(msg)
        families = tuple(_family(one) for one in _list(document["f"], _MOST_FAMILIES))
    except (KeyError, TypeError, IndexError, RecursionError, AttributeError) as error:
        msg = f"no batch of accesses: {type(error).__name__}"
        raise ValueError(msg) from None
    if len({one.family for one in families}) != len(families):
        msg = "a family stands in it twice"
        raise ValueError(msg)
    return AccessBatch(started_ms=started_ms, ended_ms=ended_ms, families=families)


def _family_document(one: FamilyAccess) -> dict[str, Any]:
    hashes = list(dict.fromkeys(record.hash for record in one.records))
    places = {text: place for place, text in enumerate(hashes)}
    # Columns instead of rows: what is alike stands together, which packs to some three bytes a request.
    return {
        "n": one.family,
        "c": [getattr(one, name) for name in _COUNTS],
        "t": one.threshold,
        "h": [list(pair) for pair in one.hot],
        "w": list(one.followed),
        "k": hashes,
        "r": [
            [places[record.hash] for record in one.records],
            _steps([record.at_ms for record in one.records]),
            [record.operation for record in one.records],
            [record.size_bytes for record in one.records],
        ],
    }


def _family(document: dict[str, Any]) -> FamilyAccess:
    counts = [_whole(count, _MOST_COUNT) for count in _list(document["c"], len(_COUNTS))]
    hashes = [_hash(text) for text in _list(document["k"], _MOST_RECORDS)]
    columns = [_list(column, _MOST_RECORDS) for column in _list(document["r"], 4)]
    hot = [(_hash(text), _whole(count, _MOST_COUNT)) for text, count in _list(document["h"], _MOST_RECORDS)]
    at_ms, records = 0, []
    for place, step, operation, size in zip(*columns, strict=True):
        at_ms += _whole(step, _LONGEST_MS)
        records.append(
            Record(
                at_ms=at_ms,
                hash=hashes[_whole(place, _MOST_RECORDS)],
                operation=_whole(operation, DELETE),
                size_bytes=_whole(size, _MOST_COUNT),
            )
        )
    return FamilyAccess(
        family=_name(document["n"]),
        **dict(zip(_COUNTS, counts, strict=True)),
        threshold=_whole(document["t"], LARGEST_HASH),
        hot=tuple(hot),
        followed=tuple(_hash(text) for text in _list(document["w"], _MOST_RECORDS)),
        records=tuple(records),
    )


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(content, MOST_BYTES)
    except zlib.error as error:
        msg = f"not packed as it should be: {error}"
        raise ValueError(msg) from None
    if not unpacker.eof or unpacker.unused_data:
        msg = f"more than {MOST_BYTES} bytes, cut off, or followed by something else"
        raise ValueError(msg)
    return text


def _steps(instants: list[int]) -> list[int]:
    return [later - earlier for earlier, later in zip([0, *instants], instants, strict=False)]


def _whole(number: object, most: int) -> int:
    if type(number) is not int or not 0 <= number <= most:
        msg = f"{number!r:.40} is no whole number from 0 to {most}"
        raise ValueError(msg)
    return number


def _list(found: object, most: int) -> list[Any]:
    if not isinstance(found, list) or len(found) > most:
        msg = f"a list of at most {most} is missing"
        raise ValueError(msg)
    return found


def _hash(text: object) -> str:
    if not isinstance(text, str) or len(text) != HASH_DIGITS or set(text) - set("0123456789abcdef"):
        msg = f"{text!r:.40} is no hash"
        raise ValueError(msg)
    return text


def _name(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= _MOST_NAME or not text.replace("-", "_").isidentifier():
        msg = f"{text!r:.80} is no name of a family"
        raise ValueError(msg)
    return text
