"""Compare what should run with what does, and mend the difference.

Each step commits on its own and may be repeated, so reconcilers may run at once or die half-way. Each begins with
what is overdue, so a step that always fails takes nothing from the ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.messages import DrainUsage, ReconcileLedger, RunCanary, message_type
from tasks.ledger.dead_letters import from_fields, letter_of_entry
from tasks.ledger.intents import parse_intent
from tasks.ledger.runs import as_json
from tasks.ledger.states import Move, State, decide_republish
from tasks.ledger.store import letters, mirror, queries, queues, runs, streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.ledger.dead_letters import DeadLetter
    from tasks.ledger.runs import Run, WantedRun
    from tasks.runtime import Runtime

MAINTENANCE_KINDS: Final = (DrainUsage.kind, ReconcileLedger.kind, RunCanary.kind)
"""The crew's own upkeep: their succeeded runs tell nobody anything for long."""

_BATCH = 500
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileReport:
    """What was mended, as counts."""

    intents: int
    """New runs taken in."""
    dead_letters: int
    """Messages and entries nobody could read, new in the database."""
    requeued: int
    """Runs whose worker fell silent, queued again."""
    buried: int
    """Runs whose worker fell silent and that have no attempts left."""
    republished: int
    """Queued runs whose message was not heard of any more."""
    mirrored: int
    """Runs whose mirror was written (most of them were mirrored already)."""
    forgotten: int
    """Rows of upkeep deleted."""

    def to_json(self) -> dict[str, Any]:
        """Give all counts as JSON values."""
        return as_json(self)


def reconcile(runtime: Runtime) -> ReconcileReport:
    """Do all steps once.

    Raises:
        TransientError: database or broker were in the way; what was mended until then stays mended.
    """
    intents, unreadable = take_in_intents(runtime)
    kept = take_in_dead_letters(runtime)
    released = release_expired(runtime)
    report = ReconcileReport(
        intents=intents,
        dead_letters=unreadable + kept,
        requeued=sum(run.state is State.QUEUED for run in released),
        buried=sum(run.state is State.DEAD for run in released),
        republished=republish_due(runtime),
        mirrored=complete_mirror(runtime),
        forgotten=forget_maintenance(runtime),
    )
    _log.info("ledger.reconciled", **report.to_json())
    return report


def take_in_intents(runtime: Runtime) -> tuple[int, int]:
    """Make runs of intents; give the counts of new runs and of entries that could not become one."""
    new, unreadable = 0, 0
    while entries := streams.oldest_entries(runtime.redis, wire.INTENTS, count=_BATCH):
        now = runtime.clock()
        wanted, refused = _sort_intents(entries, now)
        inserted = runs.insert(
            runtime.engine, wanted, unreadable=refused, now=now, republish_after=runtime.ledger.republish_after
        )
        _mirror_new(runtime, wanted, inserted, now)
        streams.drop_entries(runtime.redis, wire.INTENTS, [entry_id for entry_id, _ in entries])
        new, unreadable = new + len(inserted), unreadable + len(refused)
    return new, unreadable


def take_in_dead_letters(runtime: Runtime) -> int:
    """Move dead letters into the database; give the count of new ones."""
    count = 0
    while entries := streams.oldest_entries(runtime.redis, wire.DEAD_LETTERS, count=_BATCH):
        now = runtime.clock()
        found = [
            (f"{wire.DEAD_LETTERS}/{entry_id}", from_fields(fields, taken_in_at=now)) for entry_id, fields in entries
        ]
        count += letters.keep(runtime.engine, found)
        streams.drop_entries(runtime.redis, wire.DEAD_LETTERS, [entry_id for entry_id, _ in entries])
    return count


def release_expired(runtime: Runtime) -> list[Run]:
    """Queue or bury the runs whose worker fell silent; give them as they stand now."""
    released: list[Run] = []
    now, limit = runtime.clock(), runtime.ledger.max_attempts
    while batch := runs.release_expired(runtime.engine, now=now, default_max_attempts=limit, limit=_BATCH):
        mirror.write(runtime.redis, batch, ttl=runtime.ledger.mirror_ttl)
        for run in batch:
            _log.warning("ledger.run_released", job_id=run.id, kind=run.kind, state=run.state, reason=run.error)
        released += batch
    return released


def republish_due(runtime: Runtime) -> int:
    """Publish the queued runs that are due and whose message is not heard of any more; give their count."""
    count = 0
    now = runtime.clock()
    while due := queries.due_for_publication(runtime.engine, now=now, limit=_BATCH):
        count += _republish(runtime, due)
    return count


def publish_now(runtime: Runtime, run: Run) -> None:
    """Publish a queued run without waiting for its time.

    Raises:
        TransientError: the broker did not take it; the run stays due.
    """
    _republish(runtime, [run])


def complete_mirror(runtime: Runtime) -> int:
    """Write the mirror of every run that changed since it was last complete; give their count."""
    now, lag = runtime.clock(), runtime.ledger.lease
    position = mirror.complete_until(runtime.redis) or now - runtime.ledger.mirror_ttl
    after_id, count = "", 0
    while batch := queries.changed_since(runtime.engine, position, after_id=after_id, limit=_BATCH):
        count += mirror.write(runtime.redis, batch, ttl=runtime.ledger.mirror_ttl)
        position, after_id = batch[-1].updated_at, batch[-1].id
    # A transaction that began before this pass may commit after it, with an instant that lies before its end.
    mirror.set_complete_until(runtime.redis, now - lag)
    return count


def forget_maintenance(runtime: Runtime) -> int:
    """Delete the rows of old upkeep that went well; give their count."""
    before = runtime.clock() - runtime.ledger.keep_maintenance
    return runs.forget(runtime.engine, kinds=MAINTENANCE_KINDS, before=before)


def _sort_intents(
    entries: Sequence[tuple[str, Mapping[bytes, bytes]]], now: datetime
) -> tuple[list[WantedRun], list[tuple[str, DeadLetter]]]:
    wanted, refused = [], []
    for entry_id, fields in entries:
        try:
            wanted.append(parse_intent(fields))
        except InvalidMessageError as error:
            letter = letter_of_entry(source=wire.INTENTS, fields=fields, reason=str(error), received_at=now)
            refused.append((f"{wire.INTENTS}/{entry_id}", letter))
    return wanted, refused


def _mirror_new(runtime: Runtime, wanted: Sequence[WantedRun], inserted: Sequence[Run], now: datetime) -> None:
    ttl = runtime.ledger.mirror_ttl
    mirror.write(runtime.redis, inserted, ttl=ttl)
    for run in queries.duplicates(runtime.engine, wanted):
        reason = "another run has its dedup key"
        mirror.write_duplicate(runtime.redis, run, reason=reason, now=now, ttl=ttl)


def _republish(runtime: Runtime, due: Sequence[Run]) -> int:
    published: list[str] = []
    passed_over: list[str] = []
    waiting = _oldest_waiting(runtime, {run.queue for run in due})
    try:
        for run in due:
            needed = decide_republish(run, oldest_waiting_at=waiting[run.queue]).yes
            (published if needed and _publish(runtime, run) else passed_over).append(run.id)
    finally:
        # What is out is out, also when the broker goes away in the middle.
        after = runtime.ledger.republish_after
        runs.note_published(runtime.engine, published, passed_over, now=runtime.clock(), republish_after=after)
    return len(published)


def _oldest_waiting(runtime: Runtime, names: set[str]) -> dict[str, datetime | None]:
    """Give for each queue the age of its oldest message; one that does not say counts as very old."""
    depths = queues.depths(runtime.redis, names)
    return {depth.queue: (depth.oldest_at or _LONG_AGO) if depth.waiting else None for depth in depths}


def _publish(runtime: Runtime, run: Run) -> bool:
    """Put a run's message on its queue; false for a run that cannot be read any more, which fails by that."""
    try:
        message = message_type(run.kind).from_payload(run.payload)
    except InvalidMessageError as error:
        failed = runs.end(runtime.engine, run, move=Move(to=State.FAILED, reason=str(error)), now=runtime.clock())
        mirror.write(runtime.redis, [failed] if failed else [], ttl=runtime.ledger.mirror_ttl)
        return False
    runtime.publisher.publish(message, job_id=run.id, correlation_id=run.correlation_id, enqueued_at=run.enqueued_at)
    return True
