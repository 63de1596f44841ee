"""Where the counts stand in the log, and what can come between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.usage.merging import RawEntry

Applied = Literal["applied", "superseded", "busy"]
"""The batch was written · someone else moved the position meanwhile · someone else is writing this partition."""

IncidentKind = Literal[
    "epoch_changed", "log_rolled_back", "trimmed_unproven", "log_over_cap", "log_gap", "signature_unknown"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a partition is contained in the counts."""

    epoch: str
    """Which log it is: another one after Redis was wiped."""
    last_id: str
    """Newest entry applied."""
    proven_id: str | None = None
    """Newest entry contained in a proven restore point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Some entries of a partition, and what was true of its log in that very moment."""

    epoch: str
    """Empty while no producer has begun the log."""
    last_generated_id: str
    """Newest id that the log has ever given."""
    forgotten_id: str
    """Newest id that was forgotten, `0-0` for none: a position before it can no longer be brought up to date."""
    segment_ids: tuple[str, str] | None
    """First and last id covered by the segment that the entries were read from, None for raw entries."""
    entries: Sequence[RawEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something happened to the log itself that an operator has to know."""

    kind: IncidentKind
    detail: str


class RefusedCountsError(PermanentError):
    """The database refuses the counts themselves, for example because a sum would pass 2^63 - 1."""


class LogGapError(PermanentError):
    """The log no longer holds what follows the position, so the counts cannot be brought up to date exactly."""
