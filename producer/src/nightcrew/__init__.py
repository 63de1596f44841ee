"""The thin producer library of Nightcrew: count usage, and hand background work to the crew.

    from nightcrew import Nightcrew

    crew = Nightcrew("redis://localhost:6379/0")
    crew.usage.increment("mail.greeting", context="fr", accepted=True)
    job = crew.enqueue(RunCanary(note="hello"))

Importing it costs little: names are loaded when they are first used (PEP 562), and neither Celery
nor redis before something is sent.

Redis keys: written `nightcrew:usage:*` (counts), `nightcrew:intents` and `nightcrew:jobs:queued:*` (jobs), read
`nightcrew:jobs:caps` and `nightcrew:job:*`; `wire.py` spells them.

Reading order: `wire.py`, `messages/`, `errors.py`, `client.py`. Counting: `usage.py` (the call),
`_buffer.py` (what waits in memory) or `_spool.py` (on disk), `_flusher.py` (when it leaves),
`_usage_log.py` and `flush.lua` (how it arrives). Jobs: `_intake.py` and `enqueue.lua`, `_publisher.py`, `jobs.py` and
`_mirror.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightcrew.client import Nightcrew
    from nightcrew.errors import (
        BufferFullError,
        ClosedError,
        EnqueueError,
        FlushError,
        InvalidMessageError,
        InvalidUrlError,
        InvalidUsageError,
        JobError,
        JobFailedError,
        JobTimeoutError,
        NightcrewError,
        QueueFullError,
        SpoolError,
    )
    from nightcrew.jobs import JobHandle, JobProgress
    from nightcrew.messages import Message
    from nightcrew.usage import UsageCounter

__all__ = [
    "BufferFullError",
    "ClosedError",
    "EnqueueError",
    "FlushError",
    "InvalidMessageError",
    "InvalidUrlError",
    "InvalidUsageError",
    "JobError",
    "JobFailedError",
    "JobHandle",
    "JobProgress",
    "JobTimeoutError",
    "Message",
    "Nightcrew",
    "NightcrewError",
    "QueueFullError",
    "SpoolError",
    "UsageCounter",
]

_HOMES = {
    "JobHandle": "nightcrew.jobs",
    "JobProgress": "nightcrew.jobs",
    "Message": "nightcrew.messages",
    "Nightcrew": "nightcrew.client",
    "UsageCounter": "nightcrew.usage",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES.get(name, "nightcrew.errors")), name)


def __dir__() -> list[str]:
    """Show completion tools what is public."""
    return sorted(__all__)
