"""kombu's Redis transport, made so that nothing found in a queue can end the worker or vanish.

kombu pops a message before anything looks at it, and raises whatever the message makes it raise. Here each item is
read in full first; one that is no message goes to the dead letters in the same breath, before kombu sees it.

What remains is kombu's own window: an item that BRPOP has taken is in this process alone until it is written to
`unacked` (or here, to the dead letters). A process killed in it loses the item; the ledger publishes jobs again.
"""

from __future__ import annotations

import functools
import uuid
from queue import Empty
from typing import TYPE_CHECKING, Any

import structlog
from kombu import transport as transports
from kombu.transport import redis as redis_transport
from kombu.transport import virtual as virtual_transport
from kombu.utils.json import dumps
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from nightcrew import wire
from nightcrew._redis import tls_connection_class
from tasks.ledger.dead_letters import to_fields
from tasks.ledger.store.streams import cap_dead_letters
from workers.celery_config import TASK_QUEUES
from workers.envelope import MalformedEnvelopeError, letter_of_item, read_item, read_unacked, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger.dead_letters import DeadLetter

    Popped = tuple[bytes, bytes]

# Their stubs know less than half of them.
kombu_redis: Any = redis_transport
virtual: Any = virtual_transport

_log = structlog.get_logger(__name__)


def install_transport() -> None:
    """Make this what kombu takes for `redis://`, `rediss://` and `redis+socket://` in this process.

    By the names of the schemes, because the setting `broker_transport` is passed over for `redis+socket://` and loses
    the encryption of `rediss://` (kombu 5.7, `Connection.__init__`).
    """
    transports.TRANSPORT_ALIASES.update(redis="workers.transport:Transport", rediss="workers.transport:Transport")


def connection_errors() -> tuple[type[BaseException], ...]:
    """Give what means a lost connection. kombu counts every KeyError among them, which a message can cause as well."""
    return tuple(error for error in kombu_redis.Transport.connection_errors if error is not KeyError)


class _ScreeningClient(Redis):
    """A client that shows what BRPOP brings to `screen` before anyone else sees it."""

    def __init__(self, *arguments: Any, screen: Callable[[Popped], Popped | None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._screen = screen

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Read an answer, and give what is left of it after the screening."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        return self._screen(answer) if command_name == "BRPOP" and answer else answer


class Message(virtual.Message):  # type: ignore[misc]
    """A message under a delivery tag of its own.

    The tag in the envelope may stand in other envelopes too. Two messages under one tag would be one entry of the
    unacked hash, and the first acknowledgement would take the other one with it.
    """

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        payload["properties"]["delivery_tag"] = str(uuid.uuid4())
        super().__init__(payload, channel=channel, **options)


class QoS(kombu_redis.QoS):  # type: ignore[misc]
    """Unacknowledged messages; what stands among them and is none becomes a dead letter when it is swept up."""

    def restore_by_tag(self, tag: Any, client: Redis | None = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002  kombu's signature
        """Put a message back on its queue, in one transaction with its end among the unacknowledged."""

        def restore(pipe: Any) -> None:
            stored = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            if stored is not None:
                self.channel.requeue(stored, pipe, leftmost=leftmost)

        with self.channel.conn_or_acquire(client) as connected:
            connected.transaction(restore, self.unacked_key)


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel that hands on nothing but messages that can be read."""

    Message = Message
    QoS = QoS
    connection_class_ssl = tls_connection_class()

    def write_dead_letter(self, letter: DeadLetter) -> None:
        """Keep a letter in the stream of dead letters.

        Raises:
            RedisError: it is not kept.
        """
        with self.conn_or_acquire() as client:
            client.xadd(wire.DEAD_LETTERS, to_fields(letter))
            cap_dead_letters(client)
        _log.error("wire.message_buried", source=letter.source, kind=letter.kind, reason=letter.reason)

    def requeue(self, stored: bytes, pipe: Any, *, leftmost: bool) -> None:
        """Add to a transaction what puts an unacknowledged message back, or among the dead letters if it is none."""
        now = utc_now()
        try:
            envelope, queue = read_unacked(stored, now=now)
        except MalformedEnvelopeError as error:
            letter = letter_of_item(stored, source=self.unacked_key, reason=str(error), received_at=now)
            pipe.xadd(wire.DEAD_LETTERS, to_fields(letter))
            _log.error("wire.message_buried", source=letter.source, kind=letter.kind, reason=letter.reason)
            return
        envelope["headers"]["redelivered"] = True
        envelope["properties"]["delivery_info"]["redelivered"] = True
        # Onto its list, and not through the exchange: a wiped Redis has forgotten which queues were bound to it.
        key = self._q_for_pri(queue, self._get_message_priority(envelope))
        (pipe.lpush if leftmost else pipe.rpush)(key, dumps(envelope))

    def _get_client(self) -> Any:
        super()._get_client()  # checks the version of redis-py
        return functools.partial(_ScreeningClient, screen=self._screen)

    def _screen(self, popped: Popped) -> Popped | None:
        """Give back what can be delivered, and None for what is a dead letter now."""
        key, item = popped
        queue = key.decode().rsplit(self.sep, 1)[0]
        if queue not in TASK_QUEUES:  # answers to an `inspect`, of interest to whoever asked
            return popped
        now = utc_now()
        try:
            read_item(item, queue=queue, now=now)
        except MalformedEnvelopeError as error:
            self._bury(key, item, letter_of_item(item, source=queue, reason=str(error), received_at=now))
            return None
        return popped

    def _bury(self, key: bytes, item: bytes, letter: DeadLetter) -> None:
        try:
            self.write_dead_letter(letter)
        except RedisError as error:
            with self.conn_or_acquire() as client:
                client.rpush(key, item)  # to the end that BRPOP takes from: it is the next one again
            msg = f"the dead letter was not taken: {error}"
            raise RedisConnectionError(msg) from error

    def _receive_one(self, client: Any) -> Any:
        """Receive a broadcast (remote control); what cannot be read is dropped, as the sender waits for no one."""
        try:
            return super()._receive_one(client)
        except Empty:
            raise
        except connection_errors():
            raise
        except Exception as error:  # noqa: BLE001  anyone may publish anything
            _log.warning("wire.broadcast_refused", reason=f"{type(error).__name__}: {error!s:.200}")
            return None


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """The transport of the crew's processes."""

    Channel = Channel
