"""Handing jobs over: the intent goes to a durable stream first, the Celery message after it.

Once the intent is stored the job will run: should the message get lost, the crew's reconciler
publishes it again. So only the intent decides whether `enqueue` succeeds.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from nightcrew import _redis, wire
from nightcrew.errors import EnqueueError, InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from nightcrew._publisher import Outgoing, Publisher

    _Fields = dict[
        bytes | bytearray | memoryview[int] | str | int | float, bytes | bytearray | memoryview[int] | str | int | float
    ]

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
MAX_DEDUP_KEY_CHARACTERS: Final = 200
_OPERATION_SHARE: Final = 3 / 8

_log = logging.getLogger("nightcrew")


class Intake:
    """Stores intents and publishes their messages, all within one timeout. Safe for threads."""

    def __init__(self, url: str, timeout_s: float, publisher: Publisher) -> None:
        self._timeout_s = timeout_s
        self._publisher = publisher
        self._redis: Redis = _connect(url, timeout_s)

    def submit(self, items: Sequence[Outgoing]) -> None:
        """Hand the jobs over: all of them, or none.

        Raises:
            InvalidMessageError: a payload is no JSON, or too large.
            EnqueueError: they could not be handed over in time; it says whether they may run all the same.
        """
        started = time.monotonic()
        fields = [_fields(item) for item in items]
        self._reach(items, started)
        self._store(items, fields)
        left_s = self._timeout_s - (time.monotonic() - started)
        if left_s < self._timeout_s * _OPERATION_SHARE:
            return  # the reconciler will publish: waiting for a slow broker would only keep the caller
        try:
            self._publisher.publish_many(items, timeout_s=left_s)
        except EnqueueError as error:
            _log.debug("stored, but not published; the reconciler will: %s", error)

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _reach(self, items: Sequence[Outgoing], started: float) -> None:
        """Make sure that Redis answers: whatever fails before the intent is sent is a clear no."""
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        try:
            try:
                self._redis.ping()
            except RedisTimeoutError:
                raise
            except RedisConnectionError:  # a connection from before a restart; a new one tells
                self._redis.connection_pool.disconnect(inuse_connections=False)
                self._redis.ping()
        except (RedisError, OSError) as error:
            raise _refusal(items, error, accepted="no") from error
        if time.monotonic() - started > self._timeout_s * (1 - _OPERATION_SHARE):
            raise _refusal(items, TimeoutError("Redis answers too slowly"), accepted="no")

    def _store(self, items: Sequence[Outgoing], fields: Sequence[_Fields]) -> None:
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        try:
            if len(fields) == 1:
                self._redis.xadd(wire.INTENTS, fields[0])
                return
            with self._redis.pipeline(transaction=True) as pipeline:
                for one in fields:
                    pipeline.xadd(wire.INTENTS, one)
                pipeline.execute()
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise _refusal(items, error, accepted="unknown") from error
        except RedisError as error:  # Redis answered, and the answer is no (out of memory, read-only, no permission)
            raise _refusal(items, error, accepted="no") from error


def check_job_id(job_id: str) -> str:
    """Give the job id in its one spelling.

    Raises:
        InvalidMessageError: it is no UUID.
    """
    try:
        return str(uuid.UUID(job_id))
    except (ValueError, TypeError, AttributeError):
        msg = f"job_id must be a UUID, not {job_id!r}: leave it out, or repeat the one of an EnqueueError"
        raise InvalidMessageError(msg) from None


def check_dedup_key(dedup_key: str | None) -> str | None:
    """Give the key under which a job exists once.

    Raises:
        InvalidMessageError: it is no text, empty, or too long.
    """
    if dedup_key is None:
        return None
    if type(dedup_key) is not str or not 0 < len(dedup_key) <= MAX_DEDUP_KEY_CHARACTERS or "\0" in dedup_key:
        msg = f"dedup_key must be text of 1 to {MAX_DEDUP_KEY_CHARACTERS} characters without NUL"
        raise InvalidMessageError(msg)
    return dedup_key


def payload_json(item: Outgoing) -> bytes:
    """Write the payload as it is stored.

    Raises:
        InvalidMessageError: it is no JSON, or larger than `MAX_PAYLOAD_BYTES`.
    """
    try:
        body = json.dumps(
            item.message.to_payload(), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError) as error:
        msg = f"a field of {item.message.kind} cannot be written as JSON: {error}"
        raise InvalidMessageError(msg) from error
    if len(body) > MAX_PAYLOAD_BYTES:
        msg = f"{item.message.kind} has {len(body)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed: send a reference"
        raise InvalidMessageError(msg)
    return body


def _fields(item: Outgoing) -> _Fields:
    return {
        "v": 1,
        "id": item.job_id,
        "kind": item.message.kind,
        "payload": payload_json(item),
        "dedup_key": item.dedup_key or "",
        "correlation_id": item.correlation_id,
        "enqueued_at": repr(item.enqueued_at.timestamp()),
    }


def _connect(url: str, timeout_s: float) -> Redis:
    redis = _redis.connect(url, timeout_s * _OPERATION_SHARE)
    redis.connection_pool.connection_kwargs["socket_connect_timeout"] = timeout_s * _redis.CONNECT_SHARE
    return redis


def _refusal(items: Sequence[Outgoing], error: Exception, *, accepted: Any) -> EnqueueError:
    ids = tuple(item.job_id for item in items)
    kinds = items[0].message.kind + (f" and {len(ids) - 1} more" if ids[1:] else "")
    outcome = "it will not run" if accepted == "no" else "it may run all the same"
    msg = f"{kinds} could not be handed over ({outcome}): {error}"
    return EnqueueError(msg, job_id=ids[0], accepted=accepted, job_ids=ids)
