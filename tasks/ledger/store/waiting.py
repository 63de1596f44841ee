"""The jobs that wait for a worker, as apps count them in Redis and as they stand in SQL; and the caps apps keep to.

Redis has a sorted set of ids for each kind: `enqueue` adds to it, the mirror (`mirror.lua`) keeps it in step with the
state of each run. It exists for the caps alone: what it forgets or keeps too long costs nobody a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import case, func, select

from nightcrew import wire
from tasks.ledger.states import State
from tasks.ledger.store.failures import broker_errors
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from redis import Redis
    from sqlalchemy import Engine

_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRuns:
    """The runs of a kind that stand as `queued` in SQL."""

    count: int
    oldest_at: datetime | None
    """When the one was queued that could have begun the longest; None when all of them wait for a later moment."""


def publish_caps(redis: Redis, caps: Mapping[str, int]) -> bool:
    """Tell apps these caps and no others; say whether that changed anything."""
    with broker_errors():
        if read_caps(redis) == caps:
            return False
        with redis.pipeline(transaction=True) as pipe:
            pipe.delete(wire.QUEUE_CAPS)
            if caps:
                pipe.hset(wire.QUEUE_CAPS, mapping=cast("Any", dict(caps)))
            pipe.execute()
        return True


def read_caps(redis: Redis) -> dict[str, int]:
    """Read what apps are told, by kind; `*` stands for all others."""
    with broker_errors():
        stored = cast("dict[bytes, bytes]", redis.hgetall(wire.QUEUE_CAPS))
    return {kind.decode("utf-8", "replace"): int(cap) for kind, cap in stored.items() if cap.isdigit()}


def count_waiting(redis: Redis, kinds: Iterable[str]) -> dict[str, int]:
    """Count what apps count."""
    names = list(kinds)
    with broker_errors(), redis.pipeline(transaction=False) as pipe:
        for kind in names:
            pipe.zcard(wire.queued_jobs(kind))
        return dict(zip(names, pipe.execute(), strict=True))


def waiting_ids(redis: Redis, kind: str) -> Iterator[dict[str, float]]:
    """Give the ids of a kind in parts, each with the Unix time of its enqueueing; one may come twice."""
    with broker_errors():
        found = iter(redis.zscan_iter(wire.queued_jobs(kind), count=_CHUNK))
        while part := dict(islice(found, _CHUNK)):
            yield {job_id.decode("utf-8", "replace"): score for job_id, score in part.items()}


def add(redis: Redis, kind: str, queued: Mapping[str, datetime]) -> int:
    """Count these as waiting; give how many of them were not."""
    if not queued:
        return 0
    scores = {job_id: instant.timestamp() for job_id, instant in queued.items()}
    with broker_errors():
        return int(cast("Any", redis.zadd(wire.queued_jobs(kind), cast("Any", scores), nx=True)))


def remove(redis: Redis, kind: str, job_ids: Collection[str]) -> int:
    """Count these as waiting no more; give how many of them were."""
    if not job_ids:
        return 0
    with broker_errors():
        return int(cast("Any", redis.zrem(wire.queued_jobs(kind), *job_ids)))


def oldest_intent_at(redis: Redis) -> float | None:
    """Give the Unix time at which the oldest intent was written that is still to be taken in."""
    with broker_errors():
        entries: Any = redis.xrange(wire.INTENTS, count=1)
    return int(entries[0][0].partition(b"-")[0]) / 1000 if entries else None


def queued_runs(engine: Engine, *, now: datetime) -> dict[str, QueuedRuns]:
    """Count the queued runs of each kind that has any."""
    # A run that waits for its next attempt has no message out, and a time at which it will get one.
    could_begin = JobRun.published_at.is_not(None) | (JobRun.republish_at <= now)
    oldest = func.min(case((could_begin, JobRun.queued_at)))
    counts = select(JobRun.kind, func.count(), oldest).where(JobRun.state == State.QUEUED).group_by(JobRun.kind)
    with begin_read(engine) as connection:
        return {kind: QueuedRuns(count=count, oldest_at=at) for kind, count, at in connection.execute(counts)}


def queued_ids(engine: Engine, kind: str) -> Iterator[dict[str, datetime]]:
    """Give the ids of the queued runs of a kind in parts, each with the instant at which it was queued."""
    ids = select(JobRun.id, JobRun.queued_at).where(JobRun.state == State.QUEUED, JobRun.kind == kind)
    after = ""
    while part := _page(engine, ids.where(JobRun.id > after).order_by(JobRun.id).limit(_CHUNK)):
        yield part
        after = max(part)


def still_queued(engine: Engine, kind: str, job_ids: Sequence[str]) -> set[str]:
    """Give those of the ids whose runs are queued."""
    if not job_ids:
        return set()
    queued = (JobRun.id.in_(job_ids), JobRun.kind == kind, JobRun.state == State.QUEUED)
    with begin_read(engine) as connection:
        return set(connection.scalars(select(JobRun.id).where(*queued)))


def _page(engine: Engine, ids: Any) -> dict[str, datetime]:
    with begin_read(engine) as connection:
        return {row.id: row.queued_at for row in connection.execute(ids)}
