"""The usage log in Redis, from the side that writes it; `wire.py` and `flush.lua` describe its format."""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from nightcrew import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis import Redis

    from nightcrew._batch import Batch, Group
    from nightcrew.signing import Signer

PRODUCER_TTL_S: Final = 7 * 24 * 3600
"""How long Redis remembers a silent producer's last flush. The database remembers it as well, and longer."""

BELL_TTL_S: Final = 30
"""A doorbell that nobody answered for this long may ring again."""

_UNPARTITIONED: Final = 1
_MOST_PARTITIONS: Final = 1_024


class UsageLog:
    """Appends flushes; each is one script call, so it arrives whole or not at all, and never twice."""

    def __init__(self, redis: Redis, *, signer: Signer | None = None) -> None:
        self._redis = redis
        self._signer = signer
        self._partitions = _UNPARTITIONED  # a guess: the first reply corrects it

    def append(self, batch: Batch) -> list[int]:
        """Append a batch, unless the log has it already; give the partitions whose bell rings now.

        Raises:
            redis.exceptions.RedisError, OSError: it may or may not have arrived; appending the very
                same batch again is safe.
        """
        return self._append(
            batch.producer,
            batch.seq,
            lambda partitions: [
                (partition, "add", encode_groups(groups)) for partition, groups in split(batch.groups, partitions)
            ],
        )

    def append_reset(self, *, key: str | None, context: str | None, producer: str, seq: int = 1) -> list[int]:
        """Append the order to start counts again from zero; None stands for all keys, or all contexts.

        A producer id of its own (`uuid.uuid4().hex`) per order makes repeating it safe. Raises as `append`.
        """
        body = encode({"key": key, "context": context})
        return self._append(
            producer,
            seq,
            lambda partitions: [
                (partition, "reset", body)
                for partition in (range(partitions) if key is None else [partition_of(key, partitions)])
            ],
        )

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _append(self, producer: str, seq: int, entries_for: Any) -> list[int]:
        while True:
            verdict, *details = self._call(producer, seq, entries_for(self._partitions))
            if verdict != b"repartition":
                # Redis looks at the number of partitions first. A flush whose reply was lost and whose log was
                # repartitioned since is split anew, and then found to be a duplicate by its sequence number.
                return [int(partition) for partition in details]
            self._partitions = _checked_partitions(int(details[0]))

    def _call(self, producer: str, seq: int, entries: list[tuple[int, str, bytes]]) -> list[Any]:
        from redis.exceptions import NoScriptError

        keys: list[str] = [wire.USAGE_META, wire.usage_producer(producer)]
        args: list[Any] = [seq, self._partitions, PRODUCER_TTL_S, BELL_TTL_S, uuid.uuid4().hex]
        for partition, op, body in entries:
            keys += (wire.usage_stream(partition), wire.usage_bell(partition))
            args += (producer, op, body, self._signature(partition, producer, seq, op, body))
        script, digest = _script()
        try:
            reply: Any = self._redis.evalsha(digest, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted: nothing has run
            reply = self._redis.eval(script, len(keys), *keys, *args)
        return [_as_bytes(reply[0]), *reply[1:]]

    def _signature(self, partition: int, producer: str, seq: int, op: str, body: bytes) -> str:
        """Sign what `flush.lua` makes of these; empty without a signer."""
        if self._signer is None:
            return ""
        fields: dict[str, str | bytes] = {"v": "1", "op": op, "p": producer, "s": str(seq), "d": body}
        return self._signer.sign_entry(wire.usage_stream(partition), fields)


def split(
    groups: Iterable[tuple[Group, Mapping[str, int]]], partitions: int
) -> list[tuple[int, list[tuple[Group, Mapping[str, int]]]]]:
    """Deal the entries out to the partitions of their keys; partitions without any are left out."""
    if partitions == _UNPARTITIONED:
        return [(0, list(groups))]
    dealt: dict[int, list[tuple[Group, Mapping[str, int]]]] = {}
    for group, counts in groups:
        parts: dict[int, dict[str, int]] = {}
        for key, amount in counts.items():
            parts.setdefault(partition_of(key, partitions), {})[key] = amount
        for partition, part in parts.items():
            dealt.setdefault(partition, []).append((group, part))
    return sorted(dealt.items())


def partition_of(key: str, partitions: int) -> int:
    """Give the partition whose log has all entries of a key."""
    return zlib.crc32(key.encode()) % partitions


def encode_groups(groups: Iterable[tuple[Group, Mapping[str, int]]]) -> bytes:
    """Give the body of an `add` entry."""
    return encode([(*group, counts) for group, counts in groups])


def encode(body: object) -> bytes:
    """Give compact JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


@cache
def _script() -> tuple[str, str]:
    script = files("nightcrew").joinpath("flush.lua").read_text(encoding="utf-8")
    return script, hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - the name that EVALSHA knows a script by


def _checked_partitions(partitions: int) -> int:
    from redis.exceptions import ResponseError

    if not 1 <= partitions <= _MOST_PARTITIONS:
        msg = f"{wire.USAGE_META} says the log has {partitions} partitions; 1 to {_MOST_PARTITIONS} are possible"
        raise ResponseError(msg)
    return partitions


def _as_bytes(verdict: str | bytes) -> bytes:
    return verdict.encode() if isinstance(verdict, str) else verdict
