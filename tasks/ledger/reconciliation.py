"""Compare what should run with what does, and mend the difference.

Each step commits on its own and may be repeated, so reconcilers may run at once or die half-way. Each begins with
what is overdue, so a step that always fails takes nothing from the ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from tasks.ledger.dead_letters import from_fields, letter_of_entry
from tasks.ledger.forgetting import forget_old, why_forgotten
from tasks.ledger.intents import parse_intent
from tasks.ledger.overdue import free_orphans, miss_unstarted, pull_back
from tasks.ledger.pressure import forget_refused, mend_counts
from tasks.ledger.runs import as_json
from tasks.ledger.states import Move, State, decide_republish
from tasks.ledger.store import children, letters, mirror, queries, queues, runs, streams
from tasks.ledger.walking import posting_of, walk_timetable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.ledger.dead_letters import DeadLetter
    from tasks.ledger.runs import Run, WantedRun
    from tasks.runtime import Posting, Runtime

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
    pulled_back: int
    """Runs that a clock which ran ahead had put off."""
    requeued: int
    """Runs whose worker fell silent, queued again."""
    buried: int
    """Runs whose worker fell silent and that have no attempts left."""
    cancelled: int
    """Runs whose worker fell silent after they were called off."""
    missed: int
    """Queued runs whose time to begin was over."""
    resources_freed: int
    """Resources whose holder did not run any more."""
    republished: int
    """Queued runs whose message was not heard of any more."""
    mirrored: int
    """Runs whose mirror was written (most of them were mirrored already)."""
    recounted: int
    """Jobs that apps counted as waiting and that were not, or the other way round."""
    forgotten: int
    """Runs that ended long ago, deleted."""
    letters_dropped: int
    """Dead letters deleted before their time, because there were too many."""
    slots_fired: int
    """Slots that nobody had fired, fired now."""
    slots_fired_late: int
    """Of these, the ones whose grace was over."""
    slots_missed: int
    """Slots that may not be caught up."""

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
    pulled_back = pull_back(runtime)
    released = release_expired(runtime)
    missed, freed = miss_unstarted(runtime), free_orphans(runtime)
    walks = walk_timetable(runtime)
    republished, mirrored = republish_due(runtime), complete_mirror(runtime)
    recounted, forgotten = mend_counts(runtime), forget_old(runtime)
    report = ReconcileReport(
        intents=intents,
        dead_letters=unreadable + kept,
        pulled_back=pulled_back,
        requeued=sum(run.state is State.QUEUED for run in released),
        buried=sum(run.state is State.DEAD for run in released),
        cancelled=sum(run.state is State.CANCELLED for run in released),
        missed=len(missed),
        resources_freed=freed,
        republished=republished,
        mirrored=mirrored,
        recounted=recounted,
        forgotten=forgotten.runs,
        letters_dropped=forgotten.letters_over_cap,
        slots_fired=sum(len(walk.fired) for walk in walks),
        slots_fired_late=sum(walk.late for walk in walks),
        slots_missed=sum(walk.missed for walk in walks),
    )
    _log.info("ledger.reconciled", **report.to_json())
    return report


def take_in_intents(runtime: Runtime) -> tuple[int, int]:
    """Make runs of intents; give the counts of new runs and of entries that could not become one."""
    new, unreadable = 0, 0
    while entries := streams.oldest_entries(runtime.redis, wire.INTENTS, count=_BATCH):
        now = runtime.clock()
        wanted, refused = _sort_intents(runtime, entries, now)
        inserted = runs.insert(
            runtime.engine, wanted, unreadable=refused, now=now, republish_after=runtime.ledger.republish_after
        )
        _mirror_new(runtime, wanted, inserted, now)
        forget_refused(runtime, [letter for _, letter in refused])
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
    """Queue or end the runs whose worker fell silent; give them as they stand now."""
    released: list[Run] = []
    now, limit = runtime.clock(), runtime.ledger.max_attempts
    while batch := runs.release_expired(runtime.engine, now=now, default_max_attempts=limit, limit=_BATCH):
        with_them = children.changed_with(runtime.engine, batch)
        mirror.write(runtime.redis, [*batch, *with_them], ttl=runtime.ledger.mirror_ttl)
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


def publish_now(runtime: Runtime, *due: Run) -> None:
    """Publish queued runs without waiting for their time.

    Raises:
        TransientError: the broker did not take all of them; they stay due.
    """
    _republish(runtime, due)


def recover(runtime: Runtime) -> list[Run]:
    """Put what a silent worker left behind on its queue at once, and what was lost there; give the released runs.

    It is what cannot wait for the next reconcile, and cheap where there is nothing: two looks at an index. The second
    worker may be killed with the new message in its hand: without another one that would come back only when the
    broker gives up on it. Any number may do it at once: each run is released to one of them.

    Raises:
        TransientError: database or broker were in the way; what was released stays so, and is due.
    """
    released = release_expired(runtime)
    republish_due(runtime)
    return released


def complete_mirror(runtime: Runtime) -> int:
    """Write the mirror of every run that changed since it was last complete; give their count."""
    now, lag = runtime.clock(), runtime.ledger.lease
    position = mirror.complete_until(runtime.redis)
    if position is None or position > now:  # that far nothing is complete yet: a clock that ran ahead wrote it
        position = now - runtime.ledger.mirror_ttl
    after_id, count = "", 0
    while batch := queries.changed_since(runtime.engine, position, after_id=after_id, limit=_BATCH):
        count += mirror.write(runtime.redis, batch, ttl=runtime.ledger.mirror_ttl)
        position, after_id = batch[-1].updated_at, batch[-1].id
    # A transaction that began before this pass may commit after it, with an instant that lies before its end.
    mirror.set_complete_until(runtime.redis, now - lag)
    return count


def _sort_intents(
    runtime: Runtime, entries: Sequence[tuple[str, Mapping[bytes, bytes]]], now: datetime
) -> tuple[list[WantedRun], list[tuple[str, DeadLetter]]]:
    wanted, refused = [], []
    for entry_id, fields in entries:
        try:
            wanted.append(_parse(runtime, fields))
        except InvalidMessageError as error:
            letter = letter_of_entry(source=wire.INTENTS, fields=fields, reason=str(error), received_at=now)
            refused.append((f"{wire.INTENTS}/{entry_id}", letter))
    return wanted, refused


def _parse(runtime: Runtime, fields: Mapping[bytes, bytes]) -> WantedRun:
    runtime.guard.check_intent(fields)
    wanted = parse_intent(fields)
    if (reason := why_forgotten(runtime, wanted)) is not None:
        raise InvalidMessageError(reason)
    return wanted


def _mirror_new(runtime: Runtime, wanted: Sequence[WantedRun], inserted: Sequence[Run], now: datetime) -> None:
    ttl = runtime.ledger.mirror_ttl
    mirror.write(runtime.redis, inserted, ttl=ttl)
    for run in queries.duplicates(runtime.engine, wanted):
        reason = "another run has its dedup key"
        mirror.write_duplicate(runtime.redis, run, reason=reason, now=now, ttl=ttl)


def _republish(runtime: Runtime, due: Sequence[Run]) -> int:
    waiting = _oldest_waiting(runtime, {run.queue for run in due})
    needed = [run for run in due if decide_republish(run, oldest_waiting_at=waiting[run.queue]).yes]
    postings = [posting for run in needed if (posting := _posting(runtime, run)) is not None]
    # All in a few round trips. When the broker goes away half-way, those that are out go out again: that is harmless.
    runtime.publisher.publish_many(postings)
    published = {posting.job_id for posting in postings}
    runs.note_published(
        runtime.engine,
        [run.id for run in due if run.id in published],
        [run.id for run in due if run.id not in published],
        now=runtime.clock(),
        republish_after=runtime.ledger.republish_after,
    )
    return len(postings)


def _oldest_waiting(runtime: Runtime, names: set[str]) -> dict[str, datetime | None]:
    """Give for each queue the age of its oldest message; one that does not say counts as very old."""
    depths = queues.depths(runtime.redis, names)
    return {depth.queue: (depth.oldest_at or _LONG_AGO) if depth.waiting else None for depth in depths}


def _posting(runtime: Runtime, run: Run) -> Posting | None:
    """Make a run's message; None for a run that cannot be read any more, which fails by that."""
    try:
        return posting_of(run)
    except InvalidMessageError as error:
        failed = runs.end(runtime.engine, run, move=Move(to=State.FAILED, reason=str(error)), now=runtime.clock())
        mirror.write(runtime.redis, [failed] if failed else [], ttl=runtime.ledger.mirror_ttl)
        return None
