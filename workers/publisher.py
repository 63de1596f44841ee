"""The producer library as the jobs see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightcrew._publisher import Outgoing, Publisher
from nightcrew.errors import EnqueueError
from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from nightcrew.messages import Message
    from nightcrew.signing import Signer
    from tasks.runtime import Posting


class CrewPublisher:
    """Puts messages on their queues; fills the part of `tasks.runtime.Publisher`."""

    def __init__(self, url: str, *, timeout_s: float, signer: Signer | None = None) -> None:
        self._publisher = Publisher(url, timeout_s, signer=signer)

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        """Put one message on its queue.

        Raises:
            TransientError: the broker did not confirm it.
        """
        try:
            self._publisher.publish(message, job_id=job_id, correlation_id=correlation_id, enqueued_at=enqueued_at)
        except EnqueueError as error:
            raise TransientError(str(error)) from error

    def publish_many(self, postings: Sequence[Posting]) -> None:
        """Put messages on their queues, some hundreds in a round trip.

        Raises:
            TransientError: the broker did not confirm all of them.
        """
        outgoing = [
            Outgoing(
                message=posting.message,
                job_id=posting.job_id,
                correlation_id=posting.correlation_id,
                enqueued_at=posting.enqueued_at,
            )
            for posting in postings
        ]
        try:
            self._publisher.publish_many(outgoing)
        except EnqueueError as error:
            raise TransientError(str(error)) from error

    def close(self) -> None:
        """Give the connection back."""
        self._publisher.close()
