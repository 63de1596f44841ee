"""What waits on the broker, read from the lists and hashes that kombu's Redis transport keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from tasks.ledger.runs import as_json, instant
from tasks.ledger.store.failures import broker_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from redis import Redis


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """One queue."""

    queue: str
    waiting: int
    """Messages that no worker has taken."""
    oldest_at: datetime | None
    """When the oldest of them was enqueued; None for an empty queue, or when the message does not say."""
    unacked: int
    """Messages that a worker has taken and not finished."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


def unacked_key(queue: str) -> str:
    """Hash in which the workers of a queue keep what they have taken: `unacked_key` of their transport options."""
    return f"nightcrew:unacked:{queue.removeprefix('nightcrew.')}"


def depths(redis: Redis, queues: Iterable[str]) -> list[QueueDepth]:
    """Look at queues, each in one moment.

    kombu pushes on the left of a list named as the queue and pops on the right; messages without a priority,
    which ours are, stand in no other list.
    """
    names = list(queues)
    with broker_errors(), redis.pipeline(transaction=True) as pipe:
        for queue in names:
            pipe.llen(queue)
            pipe.lindex(queue, -1)
            pipe.hlen(unacked_key(queue))
        answers = pipe.execute()
    looks = zip(names, answers[::3], answers[1::3], answers[2::3], strict=True)
    return [
        QueueDepth(queue=queue, waiting=waiting, oldest_at=_enqueued_at(oldest), unacked=unacked)
        for queue, waiting, oldest, unacked in looks
    ]


def _enqueued_at(message: bytes | None) -> datetime | None:
    try:
        return instant(json.loads(message or b"")["headers"][wire.HEADER_ENQUEUED_AT], name="enqueued_at")
    except (ValueError, TypeError, KeyError, RecursionError, InvalidMessageError):
        # Whatever lies there is the consumer's business, which makes a dead letter of it.
        return None
