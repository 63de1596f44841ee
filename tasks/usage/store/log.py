"""The usage log in Redis: read by position, forgotten by decision."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError, ResponseError

from nightcrew import wire
from nightcrew._usage_log import UsageLog
from tasks.errors import TransientError
from tasks.usage.entries import BEGINNING, id_order
from tasks.usage.position import LogPage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from nightcrew.signing import Signer
    from tasks.usage.compaction import Segment
    from tasks.usage.merging import RawEntry


class RedisUsageLog:
    """Partitions of the usage log."""

    def __init__(self, redis: Redis, *, signer: Signer | None = None) -> None:
        self._redis = redis
        self._signer = signer

    def partitions(self, configured: int) -> list[int]:
        """Name all partitions that may hold entries: those configured, and those of an earlier, larger count."""
        with _redis_errors():
            widest: Any = self._redis.hget(wire.USAGE_META, "widest")
        return list(range(max(configured, int(widest or 0))))

    def publish_partitions(self, count: int) -> None:
        """Tell the producers how many partitions there are, and begin the log if there is none."""
        widest = len(self.partitions(count))
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(wire.USAGE_META, "epoch", uuid.uuid4().hex)
            pipe.hset(wire.USAGE_META, mapping={"partitions": str(count), "widest": str(widest)})
            pipe.execute()

    def append_reset(self, *, key: str | None, context: str | None) -> list[int]:
        """Log the order to count again from zero; give the partitions whose bell rings now."""
        with _redis_errors():
            log = UsageLog(self._redis, signer=self._signer)
            return log.append_reset(key=key, context=context, producer=uuid.uuid4().hex)

    def clear_bell(self, partition: int) -> None:
        """Take note of the doorbell; the next flush rings again."""
        with _redis_errors():
            self._redis.delete(wire.usage_bell(partition))

    def read(self, partition: int, *, after: str, count: int) -> LogPage:
        """Read what follows a position: a compacted segment as long as there is one, raw entries then.

        Epoch, ids and entries come from one transaction: read apart, a log begun anew in between could be
        taken for the continuation of the old one.
        """
        stream, segments = wire.usage_stream(partition), wire.usage_segments(partition)
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(wire.USAGE_META, "epoch", f"forgotten:{partition}")
            pipe.xinfo_stream(stream)
            pipe.xrange(segments, min=f"({after}", count=1)
            pipe.xrange(stream, min=f"({after}", count=count)
            meta, info, segment, entries = pipe.execute(raise_on_error=False)
        info = _no_stream_is_empty(info)
        for answer in (meta, segment, entries):
            _raise_answer(answer)
        covered = None
        if segment:
            (covering_id, fields), *_ = segment
            covered = fields[b"first"].decode(), covering_id.decode()
            entries = [(covering_id, fields)]
        return LogPage(
            epoch=(meta[0] or b"").decode(),
            last_generated_id=info["last-generated-id"].decode(),
            forgotten_id=(meta[1] or BEGINNING.encode()).decode(),
            segment_ids=covered,
            entries=[(entry_id.decode(), fields) for entry_id, fields in entries],
        )

    def advance_ids(self, partition: int, entry_id: str) -> None:
        """See to it that the next entry gets a greater id than this one, after the log lost its newest entries."""
        stream = wire.usage_stream(partition)
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            # XSETID would need the stream to exist; an entry that comes and goes leaves its id behind all the same.
            pipe.xadd(stream, {"v": "0"}, id=entry_id)
            pipe.xdel(stream, entry_id)
            added = pipe.execute(raise_on_error=False)[0]
        if isinstance(added, ResponseError) and "equal or smaller" not in str(added):
            raise added

    def delete(self, partition: int, entry_ids: Sequence[str]) -> None:
        """Delete single entries, which must be contained in the counts."""
        with _redis_errors():
            self._redis.xdel(wire.usage_stream(partition), *entry_ids)

    def memory_bytes(self, partition: int) -> int:
        """Measure what a partition takes in Redis, segments included."""
        with _redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.memory_usage(wire.usage_stream(partition), samples=20)
            pipe.memory_usage(wire.usage_segments(partition), samples=20)
            return sum(size or 0 for size in pipe.execute())

    def first_id(self, partition: int) -> str | None:
        """Give the oldest id that the log still covers."""
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.xrange(wire.usage_segments(partition), count=1)
            pipe.xrange(wire.usage_stream(partition), count=1)
            segments, entries = pipe.execute()
        if segments:
            return str(segments[0][1][b"first"].decode())
        return str(entries[0][0].decode()) if entries else None

    def forget(self, partition: int, upto: str) -> None:
        """Forget all entries up to and including this one, and note that they are gone."""
        milliseconds, sequence = id_order(upto)
        after = f"{milliseconds}-{sequence + 1}"
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(wire.USAGE_META, f"forgotten:{partition}", upto)
            pipe.xtrim(wire.usage_segments(partition), minid=after, approximate=False)
            pipe.xtrim(wire.usage_stream(partition), minid=after, approximate=False)
            pipe.execute()

    def read_raw(self, partition: int, *, after: str, upto: str, count: int) -> Sequence[RawEntry]:
        """Read raw entries only, for compaction."""
        with _redis_errors():
            answer: Any = self._redis.xrange(wire.usage_stream(partition), min=f"({after}", max=upto, count=count)
        return [(entry_id.decode(), fields) for entry_id, fields in answer]

    def last_segment(self, partition: int) -> RawEntry | None:
        """Give the newest segment."""
        with _redis_errors():
            answer: Any = self._redis.xrevrange(wire.usage_segments(partition), count=1)
        return (answer[0][0].decode(), answer[0][1]) if answer else None

    def replace_by_segment(self, partition: int, segment: Segment, *, instead_of: str | None) -> None:
        """Put a segment in the place of the raw entries that it covers, and of an older segment, all at once."""
        milliseconds, sequence = id_order(segment.last_id)
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            if instead_of is not None:
                pipe.xdel(wire.usage_segments(partition), instead_of)
            pipe.xadd(wire.usage_segments(partition), cast("Any", segment.to_fields()), id=segment.last_id)
            pipe.xtrim(wire.usage_stream(partition), minid=f"{milliseconds}-{sequence + 1}", approximate=False)
            pipe.execute()

    def backlog(self, partition: int, *, after: str) -> tuple[int, int | None]:
        """Count the entries behind a position (at most 10,000), and give the age mark of the oldest in ms."""
        with _redis_errors():
            answer: Any = self._redis.xrange(wire.usage_stream(partition), min=f"({after}", count=10_000)
        return len(answer), (int(answer[0][0].partition(b"-")[0]) if answer else None)


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        msg = f"broker is in the way: {error}"
        raise TransientError(msg) from error


def _no_stream_is_empty(info: Any) -> dict[str, Any]:
    if isinstance(info, ResponseError) and "no such key" in str(info):
        return {"last-generated-id": BEGINNING.encode()}
    _raise_answer(info)
    return cast("dict[str, Any]", info)


def _raise_answer(answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer
