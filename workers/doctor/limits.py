"""When a number is too large or too small."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Thresholds of all checks; the defaults fit a crew that works in seconds."""

    low_disk_bytes: int = 2 * _GIB
    """Less free space than this is a warning, a quarter of it an error."""
    low_disk_share: float = 0.05
    """The same as a share of the file system, because a large one fills faster."""
    full_memory_share: float = 0.8
    """Of the broker's `maxmemory`; from the middle between this and 1 on it is an error."""
    clock_skew: timedelta = timedelta(seconds=1)
    """How far two clocks may be apart, beyond what the measurement itself is unsure of."""
    beat_silence: timedelta = timedelta(seconds=30)
    """How long beat may say nothing."""
    queue_age: timedelta = timedelta(minutes=5)
    """How long a message or a queued run may wait; ten times as long is an error."""
    full_queue_share: float = 0.8
    """Of the cap of a kind; a full one is an error."""
    intent_age: timedelta = timedelta(minutes=3)
    """How long a job that an app asked for may wait to be taken into the ledger, which happens each minute."""
    log_age: timedelta = timedelta(minutes=3)
    """How long a use may wait to be counted; ten times as long is an error."""
    unacked_messages: int = 1_000
    """Messages that the workers of one queue have taken and not finished."""
    unacked_age: timedelta = timedelta(minutes=30)
    """How long ago the oldest of them was taken."""
    incident_memory: timedelta = timedelta(days=1)
    """How long an incident of the usage log is worth a warning."""
    restarts: int = 5
    """How often a process of the crew may have been started again."""
