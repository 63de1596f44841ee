"""The producer library as the jobs see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightcrew._publisher import Publisher
from nightcrew.errors import EnqueueError
from tasks.errors import TransientError

if TYPE_CHECKING:
    from datetime import datetime

    from nightcrew.messages import Message


class CrewPublisher:
    """Puts messages on their queues; fills the part of `tasks.runtime.Publisher`."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._publisher = Publisher(url, timeout_s)

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        """Put one message on its queue.

        Raises:
            TransientError: the broker did not confirm it.
        """
        try:
            self._publisher.publish(message, job_id=job_id, correlation_id=correlation_id, enqueued_at=enqueued_at)
        except EnqueueError as error:
            raise TransientError(str(error)) from error

    def close(self) -> None:
        """Give the connection back."""
        self._publisher.close()
