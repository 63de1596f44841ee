"""Who works on which queue: Celery's workers are asked, and answer within milliseconds even when they are busy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nightcrew._redis import kombu_url

if TYPE_CHECKING:
    from collections.abc import Mapping


def workers_by_queue(url: str, *, timeout_s: float) -> Mapping[str, int]:
    """Count the workers of each queue that has any; takes `timeout_s`, because nobody knows how many will answer.

    What `celery inspect active_queues` does, without a Celery app: one would read `CELERY_BROKER_URL` first.

    Raises:
        OSError: the broker went away meanwhile.
        KombuError: the same.
    """
    from kombu import Connection  # noqa: PLC0415  not before it is needed: 0.3 s
    from kombu.pidbox import Mailbox  # noqa: PLC0415

    mailbox: Any = Mailbox("celery", type="fanout", accept=["json"])  # the stubs of Celery describe another class
    options = {"socket_timeout": 5 * timeout_s, "socket_connect_timeout": 5 * timeout_s}
    with Connection(kombu_url(url), transport_options=options) as connection:
        answers: list[dict[str, Any]] = mailbox(connection).multi_call("active_queues", timeout=timeout_s)
        # kombu would leave a line about it in Redis for each call.
        mailbox.reply_queue(connection.default_channel).delete()
    queues = (queue for answer in answers for queues in answer.values() for queue in queues)
    return Counter(queue["name"] for queue in queues)
