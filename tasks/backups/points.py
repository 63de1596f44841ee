"""What a restore point is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  dataclasses of the values of a row
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["full", "incremental", "differential"]
"""Restorable by itself · needs every point of its chain before it · needs the full of its chain."""

KINDS = get_args(Kind)


class PointState(StrEnum):
    """What is known of a point."""

    STORED = "stored"
    """The vault has it."""
    SUSPECT = "suspect"
    """It is much smaller than those before it. It is kept, and lets no older one go."""
    DAMAGED = "damaged"
    """The vault has lost a part of it, or it did not restore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """Up to where the captured database contains a partition of the usage log."""

    epoch: str
    last_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """One moment that can be restored."""

    id: str
    """Twelve hex digits, from the run that took it: a second attempt of that run finds what the first has stored."""
    profile: str
    kind: Kind
    chain: str
    """Id of the full that it rests on; its own, if it is one."""
    sequence: int
    """Place in the chain, 0 for the full."""
    parent_id: str | None
    """The point that its delta is against."""
    reason: str
    """Why it is of this kind."""
    state: PointState = PointState.STORED
    state_reason: str = ""
    taken_at: datetime
    """The moment of which the database was captured: what came later is not in it."""
    finished_at: datetime
    size_bytes: int
    """What a restore writes, all parts together."""
    staged_bytes: int
    """What was handed to the vault."""
    database_bytes: int | None = None
    """What of that is of the database; None where an older release has written the point down."""
    added_bytes: int
    """What the vault grew by."""
    rows: int | None
    """Rows of the database; None if the database is no part of the profile."""
    is_unchanged: bool = False
    """The database is byte for byte that of the parent."""
    is_held: bool = False
    """An operator keeps it whatever the retention says."""
    proven_at: datetime | None = None
    """When it was last restored and found equal."""
    snapshot_id: str
    """Its name in the vault that it was taken to."""
    log_positions: Mapping[int, LogPosition] = field(default_factory=dict)
    """By partition: where a replay of the usage log goes on after a restore."""
    predicted_rto_s: float | None = None
    """How long a restore of it is expected to take, from request to validated."""

    @property
    def chain_bytes(self) -> int:
        """What it adds to its chain. Redis, configuration and model do not: each point has them whole."""
        return self.staged_bytes if self.database_bytes is None else self.database_bytes
