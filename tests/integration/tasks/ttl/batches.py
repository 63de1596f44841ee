"""Batches of accesses as apps encode them, made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightcrew.cache._access_batch import AccessBatch, FamilyAccess, encode

if TYPE_CHECKING:
    from datetime import datetime


def counters(family: str, **counts: int) -> FamilyAccess:
    """Make the counters of a family; gets are what hits and misses make."""
    counted: Any = counts
    return FamilyAccess(family=family, requests=counts.get("hits", 0) + counts.get("misses", 0), **counted)


def body_of(*families: FamilyAccess, at: datetime) -> bytes:
    """Encode a batch of the second before an instant."""
    ended_ms = int(at.timestamp() * 1000)
    return encode(AccessBatch(started_ms=ended_ms - 1000, ended_ms=ended_ms, families=families))
