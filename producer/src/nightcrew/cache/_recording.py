"""What the cache tells of each request, to whoever keeps count."""

from __future__ import annotations

from typing import Literal, Protocol

Operation = Literal["get", "set", "delete"]


class AccessRecorder(Protocol):
    """Hears of every request. Called on the hot path: it must be cheap, never block, and never raise."""

    def record(self, family: str, key: str, operation: Operation, *, hit: bool, size_bytes: int) -> None:
        """Take note of one request: `hit` says of a get whether a value was there, `size_bytes` is the value's size.

        A get that misses and is filled is told as a get that missed and then a set.
        """


class NoRecorder:
    """Keeps nothing."""

    def record(self, family: str, key: str, operation: Operation, *, hit: bool, size_bytes: int) -> None:
        """Let it pass."""
