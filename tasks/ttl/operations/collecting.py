"""The access log: taken into the crew's counters, kept within bounds, and given to the study."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from nightcrew import wire
from tasks.ttl.accesses import readable
from tasks.ttl.collecting import Collector, CollectReport
from tasks.ttl.store.access import RedisAccessLog, SqlAccessCounters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from nightcrew.cache._access_batch import AccessBatch
    from tasks.runtime import Runtime

_logger = structlog.get_logger()


def collect(runtime: Runtime) -> CollectReport:
    """Take in what apps have logged of their cache, and forget what is older than the settings say.

    Raises:
        TransientError: Redis or the database is away; what was committed until then stays.
        RefusedCountersError: the database refuses a sum of what was dropped.
    """
    options, now = runtime.access, runtime.clock()
    log, counters = RedisAccessLog(runtime.redis), SqlAccessCounters(runtime.engine)
    report = Collector(log, counters, runtime.clock, options.collect_entries, runtime.guard).run()
    log.keep_to(keep=options.keep_log, cap_bytes=options.log_cap_bytes, now=now)
    forgotten = counters.forget(
        hours_before=int((now - options.keep_hours).timestamp()) // 3600,
        producers_before=now - options.keep_producers,
        incidents_before=now - options.keep_incidents,
    )
    if report.transactions or forgotten:
        _logger.info(
            "ttl.collected",
            entries=report.entries,
            operations=report.operations,
            duplicates=report.duplicates,
            transactions=report.transactions,
            forgotten=forgotten,
        )
    for incident in report.incidents:
        _logger.error("ttl.access_log_changed", kind=incident.kind, detail=incident.detail)
    if report.rejected:
        _logger.error("ttl.accesses_rejected", rejected=report.rejected)
    return report


def access_window(runtime: Runtime, since: datetime) -> Iterator[AccessBatch]:
    """Give what was logged since an instant, by the clock of Redis, oldest first and each shipment once.

    What is no readable entry is passed over: `collect` has kept it as a dead letter.

    Raises:
        TransientError: Redis is away.
    """
    check = partial(runtime.guard.check_entry, wire.ACCESS_LOG)
    return readable(RedisAccessLog(runtime.redis).entries_since(since), check=check)


def hourly_counters(runtime: Runtime, since: datetime) -> list[dict[str, Any]]:
    """Give the exact counters of each hour and family from the hour of an instant on, oldest first.

    Raises:
        TransientError: the database is away.
    """
    return SqlAccessCounters(runtime.engine).hours(since_hour=int(since.timestamp()) // 3600)
