"""What all messages share: a permanent kind, a queue, and a tolerant JSON form.

The shape follows river's `JobArgs.Kind()`: the name on the wire is a string of its own, so that a
class can move or be renamed without orphaning what is already queued.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

from nightcrew.errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
"""Version of the payload form. A worker reads N and N-1, so apps and crew can be deployed one after the other."""

_types: dict[str, type[Message]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """Base of all messages.

    Subclasses are keyword-only frozen dataclasses whose fields are JSON values (str, int, float,
    bool, None, or tuples of them), and check their own fields in `__post_init__`, raising
    `InvalidMessageError`.
    """

    kind: ClassVar[str]
    """`<slice>.<verb>`; never changes once released."""

    queue: ClassVar[str]
    """Celery queue, one per kind of work: `nightcrew.<slice>`."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Register the kind, so that a name on the wire finds its class."""
        super().__init_subclass__(**kwargs)
        if (other := _types.get(cls.kind)) is not None and other.__qualname__ != cls.__qualname__:
            msg = f"kind {cls.kind!r} belongs to {other.__qualname__} already"
            raise TypeError(msg)
        _types[cls.kind] = cls

    def to_payload(self) -> dict[str, Any]:
        """Give the JSON object that travels as the keyword arguments of the Celery task."""
        return dataclasses.asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Read a payload of this or the previous schema version.

        Unknown fields are ignored (a newer app may send them).

        Raises:
            InvalidMessageError: a required field is missing or a field's value is refused.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{name: value for name, value in payload.items() if name in names})
        except TypeError as error:
            msg = f"payload of {cls.kind!r} does not fit: {error}"
            raise InvalidMessageError(msg) from error


def kinds() -> frozenset[str]:
    """Name every known kind."""
    return frozenset(_types)


def message_type(kind: str) -> type[Message]:
    """Find the class of a kind.

    Raises:
        InvalidMessageError: no message has this kind.
    """
    try:
        return _types[kind]
    except KeyError:
        msg = f"unknown kind {kind!r}; known: {', '.join(sorted(_types))}"
        raise InvalidMessageError(msg) from None
