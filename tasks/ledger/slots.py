"""The one run of each slot of the timetable: its names, and what is wanted of it."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.ledger.runs import WantedRun

if TYPE_CHECKING:
    from tasks.runtime import ScheduleEntry

_VERSION_BITS = 0x7 << 76
_VARIANT_BITS = 0b10 << 62


def slot_key(entry: str, slot: datetime) -> str:
    """Name a slot: dedup key and correlation id of its run, and the reason why there is one run of it."""
    return f"{entry}:{slot.astimezone(UTC).isoformat(timespec='seconds')}"


def slot_job_id(slot: datetime) -> str:
    """Make an id for the run of a slot: a UUIDv7 of the slot's time, so that it sorts by that beside those of apps.

    The form is that of RFC 9562 section 5.7. It is random: a slot that was fired before its time, by a clock that ran
    ahead, gets another run when its time comes.
    """
    milliseconds = int(slot.timestamp() * 1000)
    high, low = secrets.randbits(12), secrets.randbits(62)
    return str(uuid.UUID(int=milliseconds << 80 | _VERSION_BITS | high << 64 | _VARIANT_BITS | low))


def wanted_slot(entry: ScheduleEntry, slot: datetime, *, now: datetime, is_watched: bool = False) -> WantedRun:
    """Say what is wanted of a slot. An entry that catches up on nothing may not start after its grace either."""
    key = slot_key(entry.name, slot)
    late_after = slot + entry.grace
    return WantedRun(
        id=slot_job_id(slot),
        kind=entry.message.kind,
        queue=entry.message.queue,
        dedup_key=key,
        payload=entry.message.to_payload(),
        correlation_id=key,
        enqueued_at=now,
        entry=entry.name,
        slot_at=slot,
        late_after=late_after,
        start_before=late_after if entry.catch_up == "none" else None,
        watched=is_watched,
    )
