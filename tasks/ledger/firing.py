"""Firing an entry of the timetable: one run per slot, whoever fires it and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from tasks.ledger.runs import WantedRun
from tasks.ledger.slots import slot_job_id, slot_key
from tasks.ledger.store import mirror, queries, runs

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime, ScheduleEntry

_log = structlog.get_logger(__name__)


def fire_slot(entry: ScheduleEntry, runtime: Runtime) -> Run | None:
    """Make the run of the newest slot and publish its message; None when the slot has its run already.

    Doorbells get a run as well, which lets every slot end with an outcome.

    Raises:
        TransientError: the database was in the way and there is no run, or the broker was: then there is one,
            and the reconciler publishes it.
    """
    now = runtime.clock()
    wanted = _wanted(entry, now=now, slot=entry.slot_at(now))
    after = runtime.ledger.republish_after
    new = runs.insert(runtime.engine, [wanted], now=now, republish_after=after)
    if not new:
        return None
    mirror.write(runtime.redis, new, ttl=runtime.ledger.mirror_ttl)
    runtime.publisher.publish(
        entry.message, job_id=wanted.id, correlation_id=wanted.correlation_id, enqueued_at=wanted.enqueued_at
    )
    _log.info("ledger.slot_fired", slot=wanted.dedup_key, job_id=wanted.id)
    return new[0]


def newest_slot_run(entry: ScheduleEntry, runtime: Runtime) -> Run | None:
    """Find the run of the newest slot that has one."""
    return queries.newest_with_key(runtime.engine, kind=entry.message.kind, key_prefix=f"{entry.name}:")


def _wanted(entry: ScheduleEntry, *, now: datetime, slot: datetime) -> WantedRun:
    key = slot_key(entry.name, slot)
    return WantedRun(
        id=slot_job_id(entry.name, slot),
        kind=entry.message.kind,
        queue=entry.message.queue,
        dedup_key=key,
        payload=entry.message.to_payload(),
        correlation_id=key,
        enqueued_at=now,
    )
