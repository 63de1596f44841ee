"""Which values are wanted, in which order, and from where on: the questions, and the mark that a page ends with.

Pages go by key set: the next one begins behind the last value of this one, however much came or went meanwhile. An
offset would skip values, or give them twice.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.values.values import DefaultValue

SortKey = Literal["key", "created_at", "updated_at", "version"]

SORT_KEYS: Final = get_args(SortKey)
MOST_PER_PAGE: Final = 1_000
_LAST_SIGN: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xE000)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class InvalidListingError(PermanentError):
    """The question cannot be answered; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is wanted.

    Raises:
        InvalidListingError: see there.
    """

    prefix: str = ""
    """Of the key."""
    context: str | None = None
    tag: str | None = None
    updated_since: datetime | None = None
    deleted: Literal["without", "with", "only"] = "without"
    sort: SortKey = "key"
    descending: bool = False
    limit: int = 100
    after: str | None = None
    """The mark of the page before."""

    def __post_init__(self) -> None:
        """Refuse what has no answer."""
        if self.sort not in SORT_KEYS:
            msg = f"values cannot be sorted by {self.sort!r}: one of {', '.join(SORT_KEYS)}"
            raise InvalidListingError(msg)
        if not 1 <= self.limit <= MOST_PER_PAGE:
            msg = f"a page has 1 to {MOST_PER_PAGE} values, not {self.limit}"
            raise InvalidListingError(msg)

    @property
    def start(self) -> Mark | None:
        """Where the page begins; None: at the beginning."""
        return None if self.after is None else Mark.from_text(self.after, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The last value of a page, in its order."""

    place: int | None
    """What it is sorted by: a version, or microseconds since 1970; None where the key alone sorts."""
    key: str
    context: str

    def to_text(self, listing: Listing) -> str:
        """Give it as one opaque word; it is of use with the same order alone."""
        parts = [_order(listing), self.place, self.key, self.context]
        return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str, listing: Listing) -> Mark:
        """Read it.

        Raises:
            InvalidListingError: it is none, or of another order.
        """
        try:
            order, place, key, context = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, ValueError, TypeError, RecursionError):
            order, place, key, context = None, None, None, None
        is_whole = type(place) is int or (place is None and listing.sort == "key")
        if not (order == _order(listing) and is_whole and isinstance(key, str) and isinstance(context, str)):
            msg = "this is no mark of a page in this order: begin again without it"
            raise InvalidListingError(msg)
        return cls(place=place, key=key, context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some values in their order."""

    values: Sequence[DefaultValue]
    next: str | None
    """The mark for the next page; None: this was the last one."""


def mark_of(value: DefaultValue, listing: Listing) -> Mark:
    """Give the mark behind a value."""
    place: int | None
    match listing.sort:
        case "key":
            place = None
        case "version":
            place = value.version
        case "created_at":
            place = (value.created_at - _EPOCH) // _MICROSECOND
        case "updated_at":
            place = (value.updated_at - _EPOCH) // _MICROSECOND
    return Mark(place=place, key=value.key, context=value.context)


def instant_of(place: int) -> datetime:
    """Give the instant that a mark stands for.

    Raises:
        InvalidListingError: there is no such year.
    """
    try:
        return _EPOCH + place * _MICROSECOND
    except OverflowError:
        msg = "this is no mark of a page: begin again without it"
        raise InvalidListingError(msg) from None


def end_of_prefix(prefix: str) -> str | None:
    """Give the first text behind all that begin with a prefix, in the order of code points; None: there is none."""
    signs = list(prefix)
    while signs:
        number = ord(signs.pop()) + 1
        if _SURROGATES[0] <= number < _SURROGATES[1]:
            number = _SURROGATES[1]
        if number <= _LAST_SIGN:
            return "".join(signs) + chr(number)
    return None


def _order(listing: Listing) -> str:
    return f"{listing.sort}{'-' if listing.descending else '+'}"
