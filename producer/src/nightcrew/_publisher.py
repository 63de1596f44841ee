"""Celery messages, put on their queues by a Celery app of our own.

The app that uses this library may have a Celery of its own: ours is never the current one, reads no
configuration, and does not look at `CELERY_BROKER_URL`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nightcrew import _redis, wire
from nightcrew.errors import EnqueueError
from nightcrew.messages.base import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from nightcrew.messages import Message
    from nightcrew.signing import Signer

_BATCH_MESSAGES: Final = 500
_OPERATION_SHARE: Final = 3 / 8  # together with connecting and with the intent before it: one whole timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message and what travels in its headers."""

    message: Message
    job_id: str
    correlation_id: str
    enqueued_at: datetime
    dedup_key: str | None = None
    has_intent: bool = False


class Publisher:
    """Puts messages on their queues, signed where there is a signer; connects at first use. Safe for threads."""

    def __init__(self, url: str, timeout_s: float, *, signer: Signer | None = None) -> None:
        self._url = url
        self._signer = signer
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._celery: Any = None
        self._connection: Any = None
        self._producer: Any = None

    def __repr__(self) -> str:
        return f"Publisher({_redis.mask_url(self._url)!r})"

    def publish(
        self,
        message: Message,
        *,
        job_id: str,
        correlation_id: str,
        enqueued_at: datetime,
        dedup_key: str | None = None,
    ) -> None:
        """Put one message on its queue. The same job id twice is harmless: the ledger runs it once.

        Raises:
            EnqueueError: the broker did not confirm it in time.
        """
        self.publish_many(
            [
                Outgoing(
                    message=message,
                    job_id=job_id,
                    correlation_id=correlation_id,
                    enqueued_at=enqueued_at,
                    dedup_key=dedup_key,
                )
            ]
        )

    def publish_many(self, items: Sequence[Outgoing], *, timeout_s: float | None = None) -> None:
        """Put messages on their queues, up to 500 in one round trip.

        Raises:
            EnqueueError: the broker did not confirm all of them in time.
        """
        if not items:
            return
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise _refusal(items, "another thread waits for the broker", accepted="no")
        try:
            self._publish_or_reconnect(items, deadline)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give the connection back; publishing again opens another."""
        with self._lock:
            self._disconnect()

    def _publish_or_reconnect(self, items: Sequence[Outgoing], deadline: float) -> None:
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        reused = self._producer is not None
        try:
            self._publish(items)
        except (KombuError, RedisError, OSError) as error:
            self._disconnect()
            if reused and time.monotonic() + self._timeout_s * _OPERATION_SHARE < deadline:
                return self._publish_or_reconnect(items, deadline)  # the connection was from before a restart
            raise _refusal(items, str(error), accepted="unknown") from error
        return None

    def _publish(self, items: Sequence[Outgoing]) -> None:
        producer = self._producer or self._connect()
        if len(items) == 1:
            self._send(producer, items[0])
            return
        with producer.batch(max_size=_BATCH_MESSAGES):
            for item in items:
                self._send(producer, item)

    def _send(self, producer: Any, item: Outgoing) -> None:
        payload = item.message.to_payload()
        celery_message = self._celery.amqp.create_task_message(
            item.job_id,
            item.message.kind,
            args=(),
            kwargs=payload,
            argsrepr="()",  # Celery's own repr of the arguments would cost more than all the rest of the message
            kwargsrepr=_short_repr(payload),
            ignore_result=True,
        )
        producer.publish(
            celery_message.body,
            # The default exchange leads straight to the list of that name: nothing to declare, and nothing that
            # a wiped Redis could have forgotten.
            exchange="",
            routing_key=item.message.queue,
            serializer="json",
            headers={**celery_message.headers, **self._headers(item, payload)},
            delivery_mode=2,
            retry=False,
            **celery_message.properties,
        )

    def _headers(self, item: Outgoing, payload: dict[str, Any]) -> dict[str, Any]:
        headers = _headers(item)
        if self._signer is not None:
            headers[wire.HEADER_SIGNATURE] = self._signer.sign_message(
                kind=item.message.kind, job_id=item.job_id, payload=payload, headers=headers
            )
        return headers

    def _connect(self) -> Any:
        from celery import Celery

        if self._celery is None:
            self._celery = Celery("nightcrew-producer", set_as_current=False, fixups=[])
            self._celery.conf.update(task_create_missing_queues=False, task_serializer="json", task_protocol=2)
        operation_s = self._timeout_s * _OPERATION_SHARE
        connection = self._celery.connection_for_write(
            url=_redis.kombu_url(self._url),
            transport_options={
                "socket_timeout": operation_s,
                "socket_connect_timeout": self._timeout_s * _redis.CONNECT_SHARE,
                "socket_keepalive": True,
                "health_check_interval": _redis.HEALTH_CHECK_INTERVAL_S,
            },
        )
        self._connection = connection
        connection.ensure_connection(max_retries=0, timeout=operation_s)
        self._producer = self._celery.amqp.Producer(connection.channel(), auto_declare=False)
        return self._producer

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()


def _headers(item: Outgoing) -> dict[str, Any]:
    headers: dict[str, Any] = {
        wire.HEADER_SCHEMA: SCHEMA_VERSION,
        wire.HEADER_ENQUEUED_AT: item.enqueued_at.timestamp(),
        wire.HEADER_CORRELATION_ID: item.correlation_id,
    }
    if item.dedup_key is not None:
        headers[wire.HEADER_DEDUP_KEY] = item.dedup_key
    if item.has_intent:
        headers[wire.HEADER_INTENT] = True
    return headers


def _short_repr(payload: dict[str, Any]) -> str:
    """Describe the payload for Flower: numbers and flags as they are; of texts, maybe secrets, the name alone."""
    shown = (f"{name}={value!r}" if _is_plain(value) else f"{name}=…" for name, value in payload.items())
    return "{" + ", ".join(shown) + "}"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _refusal(items: Sequence[Outgoing], reason: str, *, accepted: Any) -> EnqueueError:
    ids = tuple(item.job_id for item in items)
    msg = f"the broker did not take {items[0].message.kind} ({len(ids)} in all): {_redis.mask_url(reason)}"
    return EnqueueError(msg, job_id=ids[0], accepted=accepted, job_ids=ids)
