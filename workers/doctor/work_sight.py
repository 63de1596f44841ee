"""Looks at the work: what beat, queues, streams and tables say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from nightcrew import wire
from tasks.ledger.firing import newest_slot_run
from tasks.ledger.operations import queue_depths, summarize
from tasks.ledger.store import streams
from tasks.ledger.store.queues import unacked_key
from tasks.usage.operations import backlog, partitions
from tasks.usage.store import UsageQueries
from workers.doctor.consumers import workers_by_queue
from workers.doctor.work import CombinedFacts, MessageFacts, QueueFacts, SlotFacts, TableFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis import Redis

    from schedules.entries import Entry
    from tasks.runtime import Runtime

_NO_TTL: Final = -1


def see_messages(runtime: Runtime, broker_url: str, *, answer_within_s: float) -> MessageFacts:
    """Look at what lies in the broker.

    Raises:
        RedisError: it went away.
        TransientError: the same.
    """
    redis, now = runtime.redis, runtime.clock()
    return MessageFacts(
        beat_silence=_beat_silence(redis, now),
        queues=_queues(runtime, workers_by_queue(broker_url, timeout_s=answer_within_s)),
        oldest_intent_age=_oldest_intent_age(redis, now),
        published_partitions=_published_partitions(redis),
        stuck_bells=_stuck_bells(redis, partitions(runtime)),
    )


def see_tables(
    runtime: Runtime, timetable: Mapping[str, Entry], *, started_at: datetime | None, incidents_since: datetime
) -> TableFacts:
    """Look at what stands in the database; `started_at` is when the crew started, if that is known.

    Raises:
        TransientError: it went away.
    """
    return TableFacts(
        slots=[_slot(runtime, entry, since=started_at) for entry in timetable.values()],
        incidents=UsageQueries(runtime.engine).incidents(since=incidents_since),
    )


def see_combined(runtime: Runtime) -> CombinedFacts:
    """Look at what only broker and database together can tell.

    Raises:
        TransientError: one of them went away.
    """
    return CombinedFacts(ledger=summarize(runtime), backlogs=backlog(runtime))


def _beat_silence(redis: Redis, now: datetime) -> timedelta | None:
    stored = cast("bytes | None", redis.get(wire.BEAT_HEARTBEAT))
    try:
        return None if stored is None else now - datetime.fromtimestamp(float(stored), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _queues(runtime: Runtime, workers: Mapping[str, int]) -> list[QueueFacts]:
    now = runtime.clock()
    return [
        QueueFacts(
            name=depth.queue,
            length=depth.waiting,
            oldest_age=None if depth.oldest_at is None else max(now - depth.oldest_at, timedelta()),
            unacked=depth.unacked,
            oldest_unacked_age=_oldest_unacked_age(runtime.redis, depth.queue, now) if depth.unacked else None,
            workers=workers.get(depth.queue, 0),
        )
        for depth in queue_depths(runtime)
    ]


def _oldest_intent_age(redis: Redis, now: datetime) -> timedelta | None:
    oldest = streams.oldest_entries(redis, wire.INTENTS, count=1)
    if not oldest:
        return None
    milliseconds = int(oldest[0][0].partition("-")[0])
    return max(timedelta(), now - datetime.fromtimestamp(milliseconds / 1000, UTC))


def _published_partitions(redis: Redis) -> int | None:
    stored = cast("bytes | None", redis.hget(wire.USAGE_META, "partitions"))
    return None if stored is None else int(stored)


def _stuck_bells(redis: Redis, partition_numbers: Sequence[int]) -> list[str]:
    keys = [wire.usage_bell(partition) for partition in partition_numbers]
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.ttl(key)
        return [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == _NO_TTL]


def _slot(runtime: Runtime, entry: Entry, *, since: datetime | None) -> SlotFacts:
    now = runtime.clock()
    run = newest_slot_run(entry, runtime)
    slot_at = None if run is None or run.dedup_key is None else _slot_of(run.dedup_key)
    # An entry that has never run is not late before somebody was there to run it.
    known = [instant for instant in (slot_at, since) if instant is not None]
    return SlotFacts(
        entry=entry.name,
        kind=entry.message.kind,
        slot_at=slot_at,
        job_id=None if run is None else run.id,
        state=None if run is None else str(run.state),
        next_at=next(entry.slots_after(now)),
        is_overdue=bool(known) and entry.slot_at(now - entry.grace) > max(known),
    )


def _slot_of(dedup_key: str) -> datetime:
    return datetime.fromisoformat(dedup_key.partition(":")[2])


def _oldest_unacked_age(redis: Redis, queue: str, now: datetime) -> timedelta | None:
    """Ask kombu's index of what was taken, whose scores are Unix time in seconds."""
    oldest: Any = redis.zrange(f"{unacked_key(queue)}:index", 0, 0, withscores=True)
    return max(now - datetime.fromtimestamp(oldest[0][1], UTC), timedelta()) if oldest else None
