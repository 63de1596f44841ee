"""What may be counted: keys, contexts, amounts and instants, for the library and the service alike.

The rules are those of the usage log (see `wire.py`). Each function gives the value in its plain form
and raises `InvalidUsageError` with a text that says what to do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from nightcrew.errors import InvalidUsageError
from nightcrew.wire import EARLIEST_EVENT_HOUR, MAX_AMOUNT, MAX_FUTURE_HOURS, MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Outcome = Literal["a", "r", "n"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_SHOWN_CHARACTERS: Final = 60
_MOST_BYTES_PER_CHARACTER: Final = 4
_OUTCOMES: Final[dict[bool | None, Outcome]] = {True: "a", False: "r", None: "n"}


def check_key(key: object) -> str:
    """Give the key as plain text."""
    if type(key) is str and key.isascii() and 0 < len(key) <= MAX_KEY_BYTES and "\0" not in key:
        return key
    text = _text("key", key)
    if not text:
        raise InvalidUsageError("key must not be empty: name what is counted, such as 'mail.greeting'")
    return text


def check_context(context: object) -> str:
    """Give the context as plain text; it may be empty."""
    if context == "" and type(context) is str:
        return context
    return _text("context", context)


def check_amount(amount: object) -> int:
    """Give the amount as a whole number from 1 to `MAX_AMOUNT`; True is not a number."""
    if type(amount) is not int:
        msg = f"amount must be a whole number (int), not {_shown(amount)}"
        raise InvalidUsageError(msg)
    if not 1 <= amount <= MAX_AMOUNT:
        # A number of more than some 4,000 digits has no decimal form (sys.set_int_max_str_digits): none is shown.
        msg = f"amount must lie between 1 and {MAX_AMOUNT} (2**53 - 1); counts only grow"
        raise InvalidUsageError(msg)
    return amount


def check_outcome(accepted: object) -> Outcome:
    """Give the letter that stands for the outcome in the usage log."""
    if accepted is not None and type(accepted) is not bool:
        msg = f"accepted must be True, False or None (not told), not {_shown(accepted)}"
        raise InvalidUsageError(msg)
    return _OUTCOMES[accepted]


def event_hour(at: object, *, now_hour: int) -> int:
    """Give the hour since the epoch in which an event lies.

    `now_hour` is the present one; an event may lie `MAX_FUTURE_HOURS` ahead of it.
    """
    if not isinstance(at, datetime):
        msg = f"at must be a datetime with a time zone, not {_shown(at)}"
        raise InvalidUsageError(msg)
    if at.utcoffset() is None:
        raise InvalidUsageError("at is a naive datetime: give it a time zone, such as datetime.now(UTC)")
    hour = (at - _EPOCH) // _HOUR
    if not EARLIEST_EVENT_HOUR <= hour <= now_hour + MAX_FUTURE_HOURS:
        msg = f"at must lie between the year 2000 and {MAX_FUTURE_HOURS} h from now: check where {at} comes from"
        raise InvalidUsageError(msg)
    return hour


def check_counts(counts: Mapping[Any, Any]) -> dict[str, int]:
    """Check the keys and amounts of many counts at once, at the speed of a few C calls, and give them plain.

    Joined, the keys are checked as one text; only where that finds something are they looked at one by one.
    """
    if _are_plain(counts):
        return counts if type(counts) is dict else dict(counts)
    plain: dict[str, int] = {}
    for key, amount in counts.items():
        text = check_key(key)
        plain[text] = plain.get(text, 0) + check_amount(amount)
    return plain


def _are_plain(counts: Mapping[Any, Any]) -> bool:
    """Tell whether there is nothing here to look at one by one."""
    if not counts:
        return True
    if set(map(type, counts)) != {str} or set(map(type, counts.values())) != {int}:
        return False
    if "" in counts or min(counts.values()) < 1 or max(counts.values()) > MAX_AMOUNT:
        return False
    joined = "".join(counts)
    longest = max(map(len, counts))
    if joined.isascii():
        return longest <= MAX_KEY_BYTES and "\0" not in joined
    return longest * _MOST_BYTES_PER_CHARACTER <= MAX_KEY_BYTES and "\0" not in joined and _is_unicode(joined)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"{name} must be text (str), not {_shown(value)}"
        raise InvalidUsageError(msg)
    text = str.__str__(value)  # plain, whatever a subclass (an Enum) makes of itself
    if not text.isascii() or len(text) > MAX_KEY_BYTES:
        _check_size(name, text)
    if "\0" in text:
        msg = f"{name} must not contain NUL characters, which PostgreSQL cannot store: {_shown(text)}"
        raise InvalidUsageError(msg)
    return text


def _check_size(name: str, text: str) -> None:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        msg = (
            f"{name} is not valid Unicode (lone surrogate at position {error.start}): decode it with the right encoding"
        )
        raise InvalidUsageError(msg) from None
    if size_bytes > MAX_KEY_BYTES:
        msg = f"{name} has {size_bytes} bytes in UTF-8, at most {MAX_KEY_BYTES} are allowed: {_shown(text)}"
        raise InvalidUsageError(msg)


def _shown(value: object) -> str:
    """Describe a value in a few characters, without trusting its `repr` to be short."""
    if isinstance(value, str):
        return ascii(value[:_SHOWN_CHARACTERS]) + ("…" if len(value) > _SHOWN_CHARACTERS else "")
    if value is None or isinstance(value, bool | float):
        return repr(value)
    return f"a value of type {type(value).__qualname__}"
