"""A default value and what one may be: the entity, and the rules that every way in shares."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  dataclasses of the values of a row
from typing import Any, Final

from nightcrew._validation import check_context, check_key
from nightcrew.errors import InvalidUsageError
from tasks.errors import PermanentError

MOST_VALUE_BYTES: Final = 64 * 1024
"""Of the JSON text of a value, in UTF-8."""
MOST_DEPTH: Final = 32
MOST_TAGS: Final = 32
MOST_TAG_BYTES: Final = 64
_LARGEST_WHOLE: Final = 2**63 - 1
_CONTROL: Final = " "

Address = tuple[str, str]
"""Key and context: what a default value is found by."""


class InvalidValueError(PermanentError):
    """It cannot be a default value; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultValue:
    """What an application offers before anybody has chosen, for one key in one context."""

    key: str
    context: str
    """Where it is offered; empty: everywhere else."""
    value: Any
    """JSON: null, a boolean, a number, a text, a list or an object."""
    version: int
    """From 1; each change is the next one, and so is a deletion."""
    tags: tuple[str, ...]
    """In alphabetical order."""
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def address(self) -> Address:
        """What it is found by."""
        return self.key, self.context

    @property
    def is_deleted(self) -> bool:
        """Whether it was deleted: it is kept until it is purged, and can come back."""
        return self.deleted_at is not None

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `values --json` documents."""
        return {
            "key": self.key,
            "context": self.context,
            "value": self.value,
            "version": self.version,
            "tags": list(self.tags),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "deleted_at": None if self.deleted_at is None else self.deleted_at.isoformat(),
        }


def checked_address(key: object, context: object = "") -> Address:
    """Give key and context as plain text; the rules are those of what is counted.

    Raises:
        InvalidValueError: one of them cannot be one.
    """
    try:
        return check_key(key), check_context(context)
    except InvalidUsageError as error:
        raise InvalidValueError(str(error)) from None


def checked_value(value: object) -> Any:
    """Give a value as JSON has it: plain types, small enough for a row, without what a database cannot store.

    Raises:
        InvalidValueError: it is no JSON, too large or too deep, or holds a number or a text that does not survive.
    """
    plain = _plain(value, "value", MOST_DEPTH)
    size_bytes = len(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode())
    if size_bytes > MOST_VALUE_BYTES:
        msg = f"value has {size_bytes} bytes as JSON, at most {MOST_VALUE_BYTES} are kept: store a reference instead"
        raise InvalidValueError(msg)
    return plain


def checked_tags(tags: object) -> tuple[str, ...]:
    """Give tags once each, in alphabetical order.

    Raises:
        InvalidValueError: they are no list of short texts, or too many.
    """
    if isinstance(tags, str) or not isinstance(tags, list | tuple | set | frozenset):
        msg = f"tags must be a list of texts, not {type(tags).__name__}"
        raise InvalidValueError(msg)
    checked = sorted({_tag(tag) for tag in tags})
    if len(checked) > MOST_TAGS:
        msg = f"{len(checked)} tags, at most {MOST_TAGS} are kept"
        raise InvalidValueError(msg)
    return tuple(checked)


def _tag(tag: object) -> str:
    if not isinstance(tag, str) or not tag.strip():
        msg = "a tag must be a text that is not empty"
        raise InvalidValueError(msg)
    text = _text(tag.strip(), "tag")
    if len(text.encode()) > MOST_TAG_BYTES or any(sign < _CONTROL or sign == "," for sign in text):
        msg = f"a tag has at most {MOST_TAG_BYTES} bytes, no comma and no control characters: {text[:MOST_TAG_BYTES]!r}"
        raise InvalidValueError(msg)
    return text


def _plain(value: object, where: str, depth_left: int) -> Any:
    if depth_left < 0:
        msg = f"{where[:100]}: deeper than {MOST_DEPTH} levels"
        raise InvalidValueError(msg)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int | float):
        return _number(value, where)
    if isinstance(value, list | tuple):
        return [_plain(one, f"{where}[{place}]", depth_left - 1) for place, one in enumerate(value)]
    if isinstance(value, dict):
        return {_name(name, where): _plain(one, f"{where}.{name}", depth_left - 1) for name, one in value.items()}
    msg = f"{where} must be JSON (null, boolean, number, text, list or object), not {type(value).__name__}"
    raise InvalidValueError(msg)


def _number(value: float, where: str) -> int | float:
    if isinstance(value, int):
        if abs(value) > _LARGEST_WHOLE:
            msg = f"{where}: a whole number lies between -(2**63 - 1) and 2**63 - 1: store it as text"
            raise InvalidValueError(msg)
        return int(value)
    if not math.isfinite(value):
        msg = f"{where} must be finite: JSON has no {value}"
        raise InvalidValueError(msg)
    return float(value)


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{where[:100]} is not valid Unicode: decode it with the right encoding"
        raise InvalidValueError(msg) from None
    if "\0" in text:
        msg = f"{where[:100]} must not contain NUL characters, which PostgreSQL cannot store"
        raise InvalidValueError(msg)
    return str.__str__(text)


def _name(name: object, where: str) -> str:
    if not isinstance(name, str):
        msg = f"{where[:100]}: names in an object must be texts, not {type(name).__name__}"
        raise InvalidValueError(msg)
    return _text(name, where)
