"""Fields of a message, as they are written on a command line."""

from __future__ import annotations

import json
from dataclasses import fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from nightcrew.errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightcrew.messages import Message

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def make_message(message_type: type[Message], assignments: Sequence[str]) -> Message:
    """Make a message of `name=value` texts, each read by the type of its field.

    Raises:
        InvalidMessageError: a name is no field, a value is not of its type, or the message refuses the whole.
    """
    annotations = get_type_hints(message_type)
    known = {field.name: annotations[field.name] for field in fields(message_type)}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            msg = f"field {assignment!r}: write name=value"
            raise InvalidMessageError(msg)
        if name not in known:
            have = f"it has {', '.join(known)}" if known else "it has none"
            msg = f"{message_type.kind!r} has no field {name!r}: {have}"
            raise InvalidMessageError(msg)
        values[name] = _read(name, text, known[name])
    return message_type.from_payload(values)


def _read(name: str, text: str, annotation: Any) -> Any:
    if isinstance(annotation, UnionType):
        options = get_args(annotation)
        if NoneType in options and text == "null":
            return None
        (annotation,) = (option for option in options if option is not NoneType)
    if get_origin(annotation) is tuple:
        return _read_tuple(name, text, get_args(annotation)[0])
    return _read_plain(name, text, annotation)


def _read_plain(name: str, text: str, wanted: type) -> Any:
    if wanted is str:
        return text
    try:
        return _FLAGS[text.lower()] if wanted is bool else wanted(text)
    except (ValueError, KeyError):
        asked = {bool: "true or false", int: "a whole number", float: "a number"}.get(wanted, wanted.__name__)
        msg = f"field {name!r} must be {asked}, not {text!r}"
        raise InvalidMessageError(msg) from None


def _read_tuple(name: str, text: str, wanted: type) -> tuple[Any, ...]:
    """Read `a,b,c`, or a JSON list where a value has a comma in it."""
    try:
        parts = json.loads(text) if text.startswith("[") else text.split(",") if text else []
    except ValueError as error:
        msg = f"field {name!r} must be a JSON list, or values joined by commas: {error}"
        raise InvalidMessageError(msg) from None
    return tuple(_read_plain(name, part if isinstance(part, str) else json.dumps(part), wanted) for part in parts)
