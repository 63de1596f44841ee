"""What becomes of a value when somebody wants it changed: a pure decision that says why.

Versions count without a gap: creating is 1, each change and each deletion the next, and a value that is made again
after its deletion goes on where it ended. Whoever says which version he has seen changes that one or none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from tasks.values.values import Address, DefaultValue, checked_address, checked_tags, checked_value

if TYPE_CHECKING:
    from datetime import datetime

Action = Literal["create", "update", "set", "delete"]
"""Make one that is not there · change one that is · whichever of the two it takes · mark it as deleted."""

Fault = Literal["exists", "not_found", "conflict", "invalid", "taken_back"]

_UNCHANGED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What somebody wants of one value.

    Raises:
        InvalidValueError: it cannot be a value; the text says why.
    """

    action: Action
    key: str
    context: str = ""
    value: Any = field(default=_UNCHANGED)
    """Left out: the value stays, and only tags change."""
    tags: tuple[str, ...] | None = None
    """None: they stay."""
    expected_version: int | None = None
    """The version that was seen; None: whichever it is."""

    def __post_init__(self) -> None:
        """Check everything at this border, whoever comes in."""
        key, context = checked_address(self.key, self.context)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "context", context)
        if self.has_value:
            object.__setattr__(self, "value", checked_value(self.value))
        if self.tags is not None:
            object.__setattr__(self, "tags", checked_tags(self.tags))

    @property
    def address(self) -> Address:
        """Which value."""
        return self.key, self.context

    @property
    def has_value(self) -> bool:
        """Whether it says what the value is to be."""
        return self.value is not _UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a change was not made."""

    key: str
    context: str
    fault: Fault
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `values --json` documents."""
        return {"key": self.key, "context": self.context, "error": self.fault, "detail": self.detail}


def decide(current: DefaultValue | None, change: Change, *, last_version: int, now: datetime) -> DefaultValue | Refusal:
    """Say what a value is after a change, or why it stays as it is.

    `last_version` is the newest that there ever was of this key and context, 0 for none: one that was purged counts.
    The same object comes back where nothing would change.
    """
    there = current if current is not None and not current.is_deleted else None
    if change.expected_version is not None and (there is None or there.version != change.expected_version):
        seen = "there is none" if there is None else f"it is at version {there.version}"
        return _refusal(
            change, "conflict", f"{seen} and not at {change.expected_version}: read it again and decide anew"
        )
    if there is None:
        return _decide_on_nothing(current, change, last_version=last_version, now=now)
    if change.action == "create":
        return _refusal(change, "exists", f"there is one already, at version {there.version}")
    if change.action == "delete":
        return replace(there, version=last_version + 1, updated_at=now, deleted_at=now)
    value = change.value if change.has_value else there.value
    tags = there.tags if change.tags is None else change.tags
    if _same(value, there.value) and tags == there.tags:
        return there
    return replace(there, value=value, tags=tags, version=last_version + 1, updated_at=now)


def _decide_on_nothing(
    current: DefaultValue | None, change: Change, *, last_version: int, now: datetime
) -> DefaultValue | Refusal:
    if change.action in {"update", "delete"}:
        gone = "it was deleted" if current is not None else "there is none"
        return _refusal(change, "not_found", f"{gone}: create it first")
    if not change.has_value:
        return _refusal(change, "invalid", "a new one needs a value")
    return DefaultValue(
        key=change.key,
        context=change.context,
        value=change.value,
        version=last_version + 1,
        tags=change.tags or (),
        created_at=now,
        updated_at=now,
    )


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _refusal(change: Change, fault: Fault, detail: str) -> Refusal:
    return Refusal(key=change.key, context=change.context, fault=fault, detail=detail)
