"""Handing jobs over: the intent goes to a durable stream first, the Celery message after it.

Once the intent is stored the job will run: should the message get lost, the crew's reconciler
publishes it again. So only the intent decides whether `enqueue` succeeds. `enqueue.lua` stores it, unless too many
jobs of its kind wait already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from nightcrew import _redis, wire
from nightcrew.errors import EnqueueError, InvalidMessageError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from nightcrew._publisher import Outgoing, Publisher
    from nightcrew.signing import Signer

    _Fields = dict[str, str | bytes]

MAX_PAYLOAD_BYTES: Final = wire.MAX_PAYLOAD_BYTES
MAX_BATCH_JOBS: Final = 10_000
"""Of one `enqueue_many`: Redis does nothing else while it takes them in, some 20 ms for a thousand."""
MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
MAX_DEDUP_KEY_CHARACTERS: Final = 200
_OPERATION_SHARE: Final = 3 / 8
_MEMORY_IS_FULL: Final = "Redis has reached its maxmemory and takes nothing more; `nightcrew doctor` says more"

_log = logging.getLogger("nightcrew")


class Intake:
    """Stores intents and publishes their messages, all within one timeout. Safe for threads."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        publisher: Publisher,
        *,
        heeds_caps: bool = True,
        signer: Signer | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._publisher = publisher
        self._signer = signer
        self._heeds_caps = heeds_caps
        self._redis: Redis = _connect(url, timeout_s)

    def submit(self, items: Sequence[Outgoing]) -> None:
        """Hand the jobs over: all of them, or none.

        Raises:
            InvalidMessageError: a payload is no JSON, or too large, or there are too many at once.
            QueueFullError: too many jobs of a kind wait already.
            EnqueueError: they could not be handed over in time; it says whether they may run all the same.
        """
        started = time.monotonic()
        fields = [self._fields(item) for item in items]
        check_batch([one["payload"] for one in fields])
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

    def _fields(self, item: Outgoing) -> _Fields:
        fields: _Fields = {
            "v": "1",
            "id": item.job_id,
            "kind": item.message.kind,
            "payload": payload_json(item),
            "dedup_key": item.dedup_key or "",
            "correlation_id": item.correlation_id,
            "enqueued_at": repr(item.enqueued_at.timestamp()),
        }
        return fields if self._signer is None else {**fields, "sig": self._signer.sign_intent(fields)}

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
        from redis.exceptions import OutOfMemoryError, RedisError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        kinds = list(dict.fromkeys(item.message.kind for item in items))
        try:
            verdict, *details = self._call(kinds, items, fields)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise _refusal(items, error, accepted="unknown") from error
        except OutOfMemoryError as error:
            raise _refusal(items, _MEMORY_IS_FULL, accepted="no") from error
        except RedisError as error:  # Redis answered, and the answer is no (read-only, disk full, no permission)
            raise _refusal(items, error, accepted="no") from error
        if verdict in {b"full", "full"}:
            number, waiting, cap = map(int, details)
            ids = tuple(item.job_id for item in items)
            raise QueueFullError(kind=kinds[number - 1], waiting=waiting, cap=cap, job_ids=ids)

    def _call(self, kinds: list[str], items: Sequence[Outgoing], fields: Sequence[_Fields]) -> Any:
        from redis.exceptions import NoScriptError

        keys = [wire.INTENTS, wire.QUEUE_CAPS, *map(wire.queued_jobs, kinds)]
        numbers = {kind: number for number, kind in enumerate(kinds, start=1)}
        args: list[str | bytes | int] = [int(self._heeds_caps), *kinds]
        for item, one in zip(items, fields, strict=True):
            args += (numbers[item.message.kind], item.job_id, 2 * len(one))
            for name, value in one.items():
                args += (name, value)
        script, digest = _script()
        try:
            return self._redis.evalsha(digest, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted: nothing has run
            return self._redis.eval(script, len(keys), *keys, *args)


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


def check_batch(payloads: Sequence[str | bytes]) -> None:
    """Refuse what would hold up everyone else who talks to Redis.

    Raises:
        InvalidMessageError: there are too many at once.
    """
    if len(payloads) > MAX_BATCH_JOBS:
        msg = f"{len(payloads):,} jobs at once; at most {MAX_BATCH_JOBS:,} are taken: hand them over in parts"
        raise InvalidMessageError(msg)
    size_bytes = sum(map(len, payloads))
    if size_bytes > MAX_BATCH_BYTES:
        msg = f"{size_bytes:,} bytes at once, at most {MAX_BATCH_BYTES:,} are taken: hand the jobs over in parts"
        raise InvalidMessageError(msg)


@cache
def _script() -> tuple[str, str]:
    script = files("nightcrew").joinpath("enqueue.lua").read_text(encoding="utf-8")
    return script, hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - the name that EVALSHA knows a script by


def _connect(url: str, timeout_s: float) -> Redis:
    redis = _redis.connect(url, timeout_s * _OPERATION_SHARE)
    redis.connection_pool.connection_kwargs["socket_connect_timeout"] = timeout_s * _redis.CONNECT_SHARE
    return redis


def _refusal(items: Sequence[Outgoing], error: Exception | str, *, accepted: Any) -> EnqueueError:
    ids = tuple(item.job_id for item in items)
    kinds = items[0].message.kind + (f" and {len(ids) - 1} more" if ids[1:] else "")
    outcome = "it will not run" if accepted == "no" else "it may run all the same"
    msg = f"{kinds} could not be handed over ({outcome}): {error}"
    return EnqueueError(msg, job_id=ids[0], accepted=accepted, job_ids=ids)
