"""Forgetting in SQL, a batch at a time: no batch holds up other writers for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.orm import aliased

from tasks.ledger.retention import MAINTENANCE_KINDS
from tasks.ledger.states import State
from tasks.ledger.tables import DeadLetter, JobRun, Ping, ScheduleState
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement, Engine

    from tasks.ledger.retention import RetentionRule

BATCH: Final = 500


def forget_runs(engine: Engine, rule: RetentionRule) -> int:
    """Delete up to `BATCH` runs of a rule that nothing needs any more; give their count. Their timelines go along.

    Needed are: whoever has a child that has not ended, because the child may look for it; a child as long as its
    parent is there, because the parent may be tried again and must find what it spawned; the newest slot of an entry,
    and every slot that was not walked over, because a walk gives each slot without a run a new one.
    """
    for which in _ranges(rule):
        if count := _delete(engine, JobRun, JobRun.id, *_forgettable(rule, which)):
            return count
    return 0


def has_runs(engine: Engine, rule: RetentionRule) -> bool:
    """Say whether any run may be forgotten by a rule."""
    with begin_read(engine) as connection:
        queries = (select(JobRun.id).where(*_forgettable(rule, which)).limit(1) for which in _ranges(rule))
        return any(connection.scalar(query) is not None for query in queries)


def forget_letters(engine: Engine, *, received_before: datetime, retried_before: datetime) -> int:
    """Delete up to `BATCH` letters that were received, or retried, that long ago; give their count."""
    is_old = or_(DeadLetter.received_at < received_before, DeadLetter.retried_at < retried_before)
    return _delete(engine, DeadLetter, DeadLetter.id, is_old)


def drop_letters(engine: Engine, *, most: int) -> int:
    """Delete up to `BATCH` letters of those over a limit; give their count. Retried ones go first, then the oldest."""
    over = count_letters(engine) - most
    if over <= 0:
        return 0
    # The retried ones stand in one order of their own index, the others in that of their arrival.
    retried = _delete(
        engine, DeadLetter, DeadLetter.id, DeadLetter.retried_at.is_not(None), order=DeadLetter.retried_at, limit=over
    )
    return retried or _delete(engine, DeadLetter, DeadLetter.id, order=DeadLetter.received_at, limit=over)


def count_letters(engine: Engine) -> int:
    """Count all letters that are kept."""
    with begin_read(engine) as connection:
        return connection.scalar(select(func.count()).select_from(DeadLetter)) or 0


def forget_pings(engine: Engine, *, before: datetime) -> int:
    """Delete up to `BATCH` pings that were sent or given up before an instant; give their count."""
    return _delete(engine, Ping, Ping.id, Ping.sent_at < before)


def _delete(
    engine: Engine, table: Any, key: Any, *conditions: ColumnElement[bool], order: Any = None, limit: int = BATCH
) -> int:
    """Delete a batch of rows. What changes between the look and the deletion is looked at again."""
    wanted = select(key).where(*conditions).order_by(order).limit(min(limit, BATCH))
    with begin_read(engine) as connection:  # most of the time there is nothing, and no writer has to wait for that
        keys = connection.scalars(wanted).all()
    if not keys:
        return 0
    with begin_write(engine) as connection:
        return connection.execute(delete(table).where(key.in_(keys), *conditions)).rowcount


def _ranges(rule: RetentionRule) -> Iterator[tuple[ColumnElement[bool], ...]]:
    """Give the parts of a rule that an index leads to: without one, each pass would look at all that is still kept."""
    if rule.is_maintenance:
        for kind in MAINTENANCE_KINDS:
            yield JobRun.kind == kind, JobRun.queued_at < rule.before, JobRun.state.in_(sorted(rule.states))
    else:
        for state in sorted(rule.states):
            yield JobRun.state == state, JobRun.kind.not_in(MAINTENANCE_KINDS)


def _forgettable(rule: RetentionRule, which: tuple[ColumnElement[bool], ...]) -> tuple[ColumnElement[bool], ...]:
    return *which, JobRun.finished_at < rule.before, JobRun.enqueued_at < rule.before, *_not_needed()


def _not_needed() -> tuple[ColumnElement[bool], ...]:
    child, parent, newer = aliased(JobRun), aliased(JobRun), aliased(JobRun)
    works_on = exists().where(child.parent_id == JobRun.id, child.state.in_([State.QUEUED, State.RUNNING]))
    has_parent = exists().where(parent.id == JobRun.parent_id)
    is_walked_over = exists().where(ScheduleState.name == JobRun.entry, ScheduleState.walked_until >= JobRun.slot_at)
    has_newer = exists().where(newer.entry == JobRun.entry, newer.slot_at > JobRun.slot_at)
    return ~works_on, ~has_parent, or_(JobRun.slot_at.is_(None), is_walked_over & has_newer)
