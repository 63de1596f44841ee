"""Looks at the work: what beat, queues, streams and tables say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from nightcrew import wire
from nightcrew.messages import RunFullBackup
from tasks.ledger.operations import queue_depths, summarize
from tasks.ledger.overview import look_at
from tasks.ledger.pressure import kind_depths
from tasks.ledger.store import streams
from tasks.ledger.store.queues import unacked_key
from tasks.usage.operations import backlog, partitions
from tasks.usage.store import UsageQueries
from workers.doctor.consumers import workers_by_queue
from workers.doctor.pressure import KindFacts
from workers.doctor.timetable import SlotFacts, slot_facts
from workers.doctor.work import CombinedFacts, MessageFacts, QueueFacts, TableFacts

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
        slots=_slots(runtime, timetable, since=started_at),
        incidents=UsageQueries(runtime.engine).incidents(since=incidents_since),
    )


def see_combined(runtime: Runtime) -> CombinedFacts:
    """Look at what only broker and database together can tell.

    Raises:
        TransientError: one of them went away.
    """
    return CombinedFacts(ledger=summarize(runtime), backlogs=backlog(runtime), kinds=_kinds(runtime))


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
            oldest_age=_age(depth.oldest_at if workers.get(depth.queue) else depth.oldest_of_all_at, now),
            unacked=depth.unacked,
            oldest_unacked_age=_oldest_unacked_age(runtime.redis, depth.queue, now) if depth.unacked else None,
            workers=workers.get(depth.queue, 0),
        )
        for depth in queue_depths(runtime)
        if depth.waiting or depth.unacked or workers.get(depth.queue) or _is_served(runtime, depth.queue)
    ]


def _is_served(runtime: Runtime, queue: str) -> bool:
    """Tell whether this crew has a worker for a queue: one that takes no backups has none for them."""
    return runtime.backups is not None or queue != RunFullBackup.queue


def _kinds(runtime: Runtime) -> list[KindFacts]:
    now = runtime.clock()
    return [
        KindFacts(
            kind=depth.kind,
            queued=depth.queued,
            oldest_age=_age(depth.oldest_at, now),
            counted=depth.counted,
            cap=depth.cap,
        )
        for depth in kind_depths(runtime)
    ]


def _age(instant: datetime | None, now: datetime) -> timedelta | None:
    return None if instant is None else max(now - instant, timedelta())


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


def _slots(runtime: Runtime, timetable: Mapping[str, Entry], *, since: datetime | None) -> list[SlotFacts]:
    now, entries = runtime.clock(), list(timetable.values())
    standings = look_at(entries, runtime, since=since)
    return [slot_facts(entry, standing, now=now) for entry, standing in zip(entries, standings, strict=True)]


def _oldest_unacked_age(redis: Redis, queue: str, now: datetime) -> timedelta | None:
    """Ask kombu's index of what was taken, whose scores are Unix time in seconds."""
    oldest: Any = redis.zrange(f"{unacked_key(queue)}:index", 0, 0, withscores=True)
    return max(now - datetime.fromtimestamp(oldest[0][1], UTC), timedelta()) if oldest else None
