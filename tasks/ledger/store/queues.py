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
    """Messages that a worker has taken and not finished. When no worker is left, they wait as well."""
    oldest_unacked_at: datetime | None
    """When the oldest of these was enqueued, of the hundred that were taken first."""

    @property
    def oldest_of_all_at(self) -> datetime | None:
        """When the oldest message was enqueued, whether a worker has taken it or not."""
        return min((at for at in (self.oldest_at, self.oldest_unacked_at) if at is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


_TAGS = 100


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
            QueueDepth(
                queue=queue,
                waiting=waiting,
                oldest_at=_enqueued_at(oldest),
                unacked=unacked,
                oldest_unacked_at=_oldest_unacked_at(redis, queue) if unacked else None,
            )
            for queue, waiting, oldest, unacked in looks
        ]


def _oldest_unacked_at(redis: Redis, queue: str) -> datetime | None:
    """Look into what was taken: the index holds the tags by the time of taking, the hash what they stand for."""
    tags: Any = redis.zrange(f"{unacked_key(queue)}:index", 0, _TAGS - 1)
    taken: Any = redis.hmget(unacked_key(queue), tags) if tags else []
    found = (_enqueued_at(item, is_taken=True) for item in taken)
    return min((at for at in found if at is not None), default=None)


def _enqueued_at(item: bytes | None, *, is_taken: bool = False) -> datetime | None:
    """Read the header of a message; what a worker has taken stands in a list with exchange and routing key."""
    try:
        message = json.loads(item or b"")
        headers = (message[0] if is_taken else message)["headers"]
        return instant(headers[wire.HEADER_ENQUEUED_AT], name="enqueued_at")
    except (ValueError, TypeError, LookupError, RecursionError, InvalidMessageError):
        # Whatever lies there is the consumer's business, which makes a dead letter of it.
        return None
