"""What a flush carries, and what the flusher needs of the place where counts wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["a", "r", "n"]
"""Accepted, rejected, not told."""

FLUSH_ENTRIES: Final = 5_000
"""Most distinct entries of one flush: Redis runs it as one script and serves nobody else meanwhile (some 5 ms)."""


Group = tuple[int, str, Outcome]
"""What the entries of one object on the wire have in common: hour, context, outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One flush, frozen: it is sent in this form until the log has it."""

    producer: str
    seq: int
    groups: tuple[tuple[Group, Mapping[str, int]], ...]

    @property
    def size(self) -> int:
        """Distinct entries."""
        return sum(len(counts) for _, counts in self.groups)


class Source(Protocol):
    """Where counts wait until they are handed over; all of it is called from the flusher's thread alone."""

    def seal(self, *, everything: bool) -> None:
        """Set apart what was counted before this call, so that taking it comes to an end.

        What is cheap to leave (entries that go on coalescing) may stay, unless `everything` is wanted.
        """

    def take(self) -> Batch | None:
        """Freeze the next batch of what was sealed; the same one again until it is settled."""

    def settle(self) -> None:
        """Forget the frozen batch: the log has it."""

    def unseal(self) -> None:
        """Let what was sealed and not taken coalesce with newer counts again: the log is away."""
