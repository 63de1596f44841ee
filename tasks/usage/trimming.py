"""What the usage log may forget: a pure decision that says why.

The log is what makes a restored database exact again, so it is forgotten only up to what a restore point contains
that was restored and found equal. Memory is finite all the same: at the cap even unproven entries go, and someone is
told. What is not yet in the database never goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.usage.entries import id_order

if TYPE_CHECKING:
    from tasks.usage.position import IncidentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSize:
    """How large a partition of the log is, and how far it is safe."""

    first_id: str | None
    """Oldest entry, None for an empty log."""
    memory_bytes: int
    applied_id: str
    """Newest entry contained in the counts."""
    proven_id: str | None
    """Newest entry contained in a proven restore point, None while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimDecision:
    """Forget everything up to and including `upto` (None: nothing), because of `reason`."""

    upto: str | None
    reason: str
    incident: IncidentKind | None = None


def decide_trim(size: LogSize, *, cap_bytes: int) -> TrimDecision:
    """Decide what to forget of one partition."""
    if size.first_id is None:
        return TrimDecision(upto=None, reason="the log is empty")
    if size.memory_bytes > cap_bytes:
        return _decide_over_cap(size, cap_bytes)
    if size.proven_id is None:
        return TrimDecision(upto=None, reason="no restore point is proven yet: everything is kept for a replay")
    upto = min(size.applied_id, size.proven_id, key=id_order)
    if id_order(upto) < id_order(size.first_id):
        return TrimDecision(upto=None, reason="everything proven is forgotten already")
    return TrimDecision(upto=upto, reason="contained in a proven restore point")


def _decide_over_cap(size: LogSize, cap_bytes: int) -> TrimDecision:
    over = f"{size.memory_bytes} bytes are over the cap of {cap_bytes}"
    if size.first_id is None or id_order(size.applied_id) < id_order(size.first_id):
        return TrimDecision(upto=None, reason=f"{over}, but nothing of it is applied yet", incident="log_over_cap")
    if size.proven_id is not None and id_order(size.proven_id) >= id_order(size.applied_id):
        return TrimDecision(upto=size.applied_id, reason=f"{over}; contained in a proven restore point")
    return TrimDecision(
        upto=size.applied_id,
        reason=f"{over}: a database restored from before {size.applied_id} can no longer be brought up to date",
        incident="trimmed_unproven",
    )
