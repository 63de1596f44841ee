"""The one run of each slot of the timetable, by names that anyone can work out.

Two beats, a beat that was restarted, and a message that came twice all arrive at the same id and the same key.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime

_VERSION_BITS = 0x7 << 76
_VARIANT_BITS = 0b10 << 62


def slot_key(entry: str, slot: datetime) -> str:
    """Name a slot: dedup key and correlation id of its run."""
    return f"{entry}:{slot.astimezone(UTC).isoformat(timespec='seconds')}"


def slot_job_id(entry: str, slot: datetime) -> str:
    """Give the id of the run of a slot: a UUIDv7 of the slot's time whose random part is a hash of its name.

    The form is that of RFC 9562 section 5.7, so the ids of slots sort by time beside those of apps.
    """
    milliseconds = int(slot.timestamp() * 1000)
    digest = int.from_bytes(hashlib.sha256(slot_key(entry, slot).encode()).digest()[:10], "big")
    high, low = digest >> 62 & 0xFFF, digest & (2**62 - 1)
    return str(uuid.UUID(int=milliseconds << 80 | _VERSION_BITS | high << 64 | _VARIANT_BITS | low))
