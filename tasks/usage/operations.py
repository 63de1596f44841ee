"""What jobs and operators do with usage, each in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from nightcrew._uuid7 import uuid7
from nightcrew.messages import DrainUsage
from tasks.usage.drain import Drain, DrainReport
from tasks.usage.entries import BEGINNING
from tasks.usage.housekeeping import keep_house
from tasks.usage.position import Incident, LogGapError
from tasks.usage.store import RedisUsageLog, SqlUsageCounts, UsageQueries
from tasks.usage.store.counts import note_proven

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from tasks.usage.trimming import TrimDecision

_logger = structlog.get_logger()


__all__ = [
    "Backlog",
    "announce_partitions",
    "backlog",
    "drain_of",
    "drain_partition",
    "forget_old",
    "keep_partition",
    "log_reset",
    "note_proven",
    "partitions",
    "ring",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What of a partition's log is not in the counts yet."""

    partition: int
    entries: int
    """At most 10,000; more are not counted."""
    age_s: float
    """Age of the oldest of them, 0 without any."""
    log_bytes: int
    """What the whole log of the partition takes in Redis."""


def drain_partition(runtime: Runtime, partition: int) -> DrainReport:
    """Bring the counts of one partition up to the end of its log.

    Raises:
        TransientError: Redis or the database is away.
        LogGapError: the log no longer holds what follows the database's position.
    """
    try:
        report = drain_of(runtime).run(partition)
    except LogGapError as error:
        incident = Incident(kind="log_gap", detail=str(error))
        SqlUsageCounts(runtime.engine).report(partition, incident, runtime.clock())
        raise
    if report.transactions:
        _logger.info(
            "usage.drained",
            partition=partition,
            entries=report.entries,
            increments=report.increments,
            duplicates=report.duplicates,
            transactions=report.transactions,
        )
    for incident in report.incidents:
        _logger.error("usage.log_changed", partition=partition, kind=incident.kind, detail=incident.detail)
    if report.rejected:
        _logger.error("usage.entries_rejected", partition=partition, rejected=report.rejected)
    return report


def announce_partitions(runtime: Runtime) -> None:
    """Tell the producers how many partitions there are, and begin the log if there is none.

    Raises:
        TransientError: the broker is away.
    """
    RedisUsageLog(runtime.redis).publish_partitions(runtime.usage.partitions)


def keep_partition(runtime: Runtime, partition: int) -> TrimDecision | None:
    """Compact and trim the log of one partition, if anything of it was ever drained."""
    counts = SqlUsageCounts(runtime.engine)
    if (position := counts.position(partition)) is None:
        return None
    log = RedisUsageLog(runtime.redis)
    return keep_house(
        log,
        counts,
        runtime.usage,
        partition=partition,
        position=position,
        now=runtime.clock(),
        guard=runtime.guard,
        borders=runtime.log_borders(partition, position.epoch),
    )


def forget_old(runtime: Runtime) -> int:
    """Forget producers and incidents of long ago; give the count.

    Raises:
        TransientError: the database is away.
    """
    now, options = runtime.clock(), runtime.usage
    count = SqlUsageCounts(runtime.engine).forget(
        producers_before=now - options.keep_producers, incidents_before=now - options.keep_incidents
    )
    if count:
        _logger.info("usage.forgotten", count=count)
    return count


def log_reset(runtime: Runtime, *, key: str | None, context: str | None) -> None:
    """Log the order to count again from zero, and have it drained at once.

    Raises:
        TransientError: the broker is away; the order may or may not have been logged, and repeating it is harmless.
    """
    for partition in RedisUsageLog(runtime.redis, signer=runtime.guard.signer).append_reset(key=key, context=context):
        ring(runtime, partition)


def ring(runtime: Runtime, partition: int | None = None) -> None:
    """Have a worker drain a partition, or all of them.

    Raises:
        TransientError: the broker is away.
    """
    bell_id = str(uuid7())
    message = DrainUsage(partition=partition)
    runtime.publisher.publish(message, job_id=bell_id, correlation_id=bell_id, enqueued_at=runtime.clock())


def backlog(runtime: Runtime) -> list[Backlog]:
    """Measure what is logged and not yet counted, by partition."""
    log, positions = RedisUsageLog(runtime.redis), UsageQueries(runtime.engine).positions()
    measured = []
    for partition in partitions(runtime):
        position = positions.get(partition)
        entries, oldest_ms = log.backlog(partition, after=position.last_id if position else BEGINNING)
        age_s = max(0.0, runtime.clock().timestamp() - oldest_ms / 1000) if oldest_ms is not None else 0.0
        size = log.memory_bytes(partition)
        measured.append(Backlog(partition=partition, entries=entries, age_s=age_s, log_bytes=size))
    return measured


def partitions(runtime: Runtime) -> list[int]:
    """Name every partition that may hold entries."""
    return RedisUsageLog(runtime.redis).partitions(runtime.usage.partitions)


def drain_of(runtime: Runtime) -> Drain:
    """Build the drain of this process."""
    page = runtime.usage.drain_entries
    return Drain(RedisUsageLog(runtime.redis), SqlUsageCounts(runtime.engine), runtime.clock, page, runtime.guard)
