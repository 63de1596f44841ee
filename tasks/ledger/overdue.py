"""Steps of a reconcile about what time has passed over.

Runs that may not begin any more, resources that nobody uses but that are not free, and what a clock that ran ahead
has put off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from tasks.ledger.catching_up import CLOCK_TOLERANCE
from tasks.ledger.store import ahead, leases, mirror, runs

if TYPE_CHECKING:
    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime

_TELL_SHARE: Final = 4
"""A clock that differs from the database's by more than this part of a lease is told of."""

_log = structlog.get_logger(__name__)


def miss_unstarted(runtime: Runtime) -> list[Run]:
    """End the queued runs whose time to begin is over, and tell of each; give them as they stand now."""
    missed: list[Run] = []
    now = runtime.clock()
    while batch := runs.miss_unstarted(runtime.engine, now=now):
        mirror.write(runtime.redis, batch, ttl=runtime.ledger.mirror_ttl)
        for run in batch:
            _log.error("ledger.run_missed", job_id=run.id, kind=run.kind, entry=run.entry, reason=run.error)
        missed += batch
    return missed


def pull_back(runtime: Runtime) -> int:
    """Bring into the present what a clock that ran ahead has put off; give the count of runs.

    Its worker may be dead, and its lease would last as long as the clock was wrong. Whose own clock differs from the
    database's leaves this to others: to one that runs behind, everybody else's runs ahead.
    """
    now, lease = runtime.clock(), runtime.ledger.lease
    difference = now - ahead.database_time(runtime.engine)
    if abs(difference) > lease / _TELL_SHARE:
        seconds = round(difference.total_seconds(), 1)
        _log.error("ledger.clock_deviated", ahead_of_database_s=seconds, worker=runtime.worker_name)
    if abs(difference) > CLOCK_TOLERANCE:
        return 0
    limit = now + CLOCK_TOLERANCE
    count = ahead.pull_back(runtime.engine, now=now, later_than=limit, lease=lease)
    if count:
        _log.warning("ledger.runs_pulled_back", count=count, reason="a clock ran ahead")
    return count


def free_orphans(runtime: Runtime) -> int:
    """Free the resources whose holder does not run any more; give their count."""
    freed = leases.free_orphans(runtime.engine)
    for one in freed:
        _log.warning("ledger.resource_freed", resource=one.resource, run_id=one.run_id, worker=one.worker)
    return len(freed)
