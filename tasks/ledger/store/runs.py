"""The runs in SQL: what may be done to them, each in one transaction.

Every function raises `TransientError` or `PermanentError` as `tasks.transactions` says. The statements themselves are
in `changes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import bindparam, select, update

from tasks.ledger.events import Event
from tasks.ledger.resources import Resource, ask_again_at, busy_text
from tasks.ledger.states import (
    Move,
    State,
    decide_after_error,
    decide_claim,
    decide_expiry,
    decide_requeue,
    is_too_late_to_start,
    lease_expired,
)
from tasks.ledger.store import ahead, changes, leases, letters
from tasks.ledger.store.cancelling import cancel_children
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Engine, Table

    from tasks.ledger.dead_letters import DeadLetter
    from tasks.ledger.runs import Run, WantedRun
    from tasks.ledger.states import ClaimDecision

_TABLE: Final = cast("Table", JobRun.__table__)
_HELD: Final = (
    _TABLE.c.id == bindparam("seen_id"),
    _TABLE.c.state == State.RUNNING,
    _TABLE.c.fence == bindparam("seen_fence"),
)
_LOOK: Final = select(*COLUMNS).where(*_HELD)
_HOLD: Final = (
    update(_TABLE)
    .where(*_HELD)
    .values({name: bindparam(f"new_{name}", type_=_TABLE.c[name].type) for name in ("lease_until", "heartbeat_at")})
    .returning(*COLUMNS)
)
_PROGRESS: Final = (
    update(_TABLE)
    .where(*_HELD)
    .values({name: bindparam(f"new_{name}", type_=_TABLE.c[name].type) for name in ("progress", "progress_text")})
    .returning(*COLUMNS)
)
_DEFER_AGAIN: Final = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("seen_id"), _TABLE.c.state == State.QUEUED)
    .values({name: bindparam(f"new_{name}", type_=_TABLE.c[name].type) for name in ("published_at", "republish_at")})
)
_ENDS: Final = {"bury": State.DEAD, "miss": State.MISSED, "cancel": State.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What came of trying to take a run."""

    taken: bool
    reason: str
    run: Run | None
    """As it stands now; None when another run holds the dedup key."""
    fences: Mapping[str, int] = field(default_factory=dict)
    """Of the resources that were taken with it."""
    ended: bool = False
    """Whether the claim ended the run instead: too late, called off, or no attempts left."""
    again_at: datetime | None = None
    """When to try again, because what it needs is in use; None where there is nothing to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an attempt failed."""

    reason: str
    permanent: bool = False
    busy: bool = False
    """Another run uses what this one needs: the attempt does not count."""
    called_off: bool = False
    """The work stopped because somebody had asked it to."""


def insert(
    engine: Engine,
    wanted: Sequence[WantedRun],
    *,
    unreadable: Iterable[tuple[str, DeadLetter]] = (),
    now: datetime,
    republish_after: timedelta,
) -> list[Run]:
    """Write the runs that are not there yet, and with them what could not become one; give the new ones.

    A run is there when its id is, or another one of its kind with its dedup key.
    """
    with begin_write(engine) as connection:
        letters.insert(connection, unreadable)
        return changes.insert(connection, wanted, now=now, republish_after=republish_after)


def claim(
    engine: Engine,
    wanted: WantedRun,
    *,
    now: datetime,
    worker: str,
    lease: timedelta,
    max_attempts: int,
    exclusive: Collection[str] = (),
) -> Claim:
    """Take a run for a worker, and all resources it needs or none: attempt and fence are counted up before the work.

    A run that the ledger has not taken in yet is written first. Of any number of claimers one gets it.
    """
    with begin_write(engine) as connection:
        new = changes.insert(connection, [wanted], now=now, republish_after=lease)
        run = new[0] if new else changes.lock(connection, wanted.id)
        if run is None:
            return Claim(taken=False, reason=_duplicate(connection, wanted), run=None)
        decision = _decide_claim(connection, run, now=now, max_attempts=max_attempts)
        if decision.action == "skip":
            return Claim(taken=False, reason=decision.reason, run=run)
        if decision.action != "take":
            ended = _end(connection, run, Move(to=_ENDS[decision.action], reason=decision.reason), now=now)
            return Claim(taken=False, reason=decision.reason, run=ended or run, ended=ended is not None)
        fences = _take_resources(connection, run, exclusive, worker=worker, now=now, lease_until=now + lease)
        if isinstance(fences, Resource):
            return _defer(connection, run, fences, now=now, lease=lease)
        started = _start(connection, run, decision, now=now, worker=worker, lease=lease, max_attempts=max_attempts)
        return replace(started, fences=fences)


def hold(connection: Connection, run: Run, *, now: datetime, lease: timedelta, resources: int = 0) -> Run | None:
    """Prolong a claim and the count of resources it took, and keep both until the end of the transaction.

    Give the run as it stands; None when the claim or a resource is not the current one any more.
    """
    values = {"new_lease_until": now + lease, "new_heartbeat_at": now}
    row = connection.execute(_HOLD, {**_seen(run), **values}).one_or_none()
    if row is None:
        return None
    if resources and leases.renew(connection, run, lease_until=now + lease) != resources:
        return None
    return read_run(row)


def renew(engine: Engine, run: Run, *, now: datetime, lease: timedelta, resources: int = 0) -> bool:
    """Prolong the lease of a claimed run and its resources; false when they are not the current ones any more."""
    with begin_write(engine) as connection:
        return hold(connection, run, now=now, lease=lease, resources=resources) is not None


def look(engine: Engine, run: Run, *, resources: int = 0) -> Run | None:
    """Read a claimed run; None when the claim, or a resource it took, is not the current one any more."""
    with begin_read(engine) as connection:
        row = connection.execute(_LOOK, _seen(run)).one_or_none()
        if row is None or (resources and leases.held(connection, run) != resources):
            return None
        return read_run(row)


def note_progress(engine: Engine, run: Run, *, share: float, text: str, resources: int = 0) -> Run | None:
    """Note how far a claimed run is, and read it as `look` does. Its revision stays: nothing has happened to it."""
    values = {"new_progress": share, "new_progress_text": text}
    with begin_write(engine) as connection:
        row = connection.execute(_PROGRESS, {**_seen(run), **values}).one_or_none()
        if row is None or (resources and leases.held(connection, run) != resources):
            return None
        return read_run(row)


def succeed(engine: Engine, run: Run, *, result: Any, now: datetime) -> Run | None:
    """Record the result of a claimed run; None when the claim is not the current one any more."""
    with begin_write(engine) as connection:
        return succeed_in(connection, run, result=result, now=now)


def succeed_in(connection: Connection, run: Run, *, result: Any, now: datetime) -> Run | None:
    """Do the same in a transaction of the caller."""
    return changes.move(
        connection, run, State.SUCCEEDED, now=now, result=result, error=None, finished_at=now, lease_until=None
    )


def end(engine: Engine, run: Run, *, move: Move, now: datetime) -> Run | None:
    """Record that a run ended without a result; None when it stands elsewhere by now."""
    with begin_write(engine) as connection:
        return _end(connection, run, move, now=now)


def fail(
    engine: Engine, run: Run, failure: Failure, *, now: datetime, published_at: datetime | None, republish_at: datetime
) -> Run | None:
    """Record that the attempt of a claimed run failed: it is queued again, or ends; give it as it stands now.

    Somebody may have called it off meanwhile. None when the claim is not the current one any more.
    """
    with begin_write(engine) as connection:
        current = changes.lock(connection, run.id)
        if current is None or (current.state, current.fence) != (State.RUNNING, run.fence):
            return None
        move = _after_failure(current, failure)
        if move.to is not State.QUEUED:
            return _end(connection, current, Move(to=move.to, reason=failure.reason), now=now)
        back = changes.waiting(reason=failure.reason, now=now, published_at=published_at, republish_at=republish_at)
        if failure.busy:
            uncounted = current.attempt - 1
            return changes.move(
                connection, current, State.QUEUED, now=now, event=Event.DEFERRED, attempt=uncounted, **back
            )
        return changes.move(connection, current, State.QUEUED, now=now, event=Event.RETRIED, **back)


def restart(engine: Engine, run: Run, *, now: datetime, detail: str | None = None) -> Run | None:
    """Give an ended run all its attempts again; its fence goes on growing. None when it stands elsewhere by now."""
    with begin_write(engine) as connection:
        return restart_in(connection, run, now=now, detail=detail)


def restart_in(connection: Connection, run: Run, *, now: datetime, detail: str | None = None) -> Run | None:
    """Do the same in a transaction of the caller."""
    back = changes.restarting(now=now)
    return changes.move(connection, run, State.QUEUED, now=now, event=Event.RESTARTED, detail=detail, **back)


def release_expired(engine: Engine, *, now: datetime, default_max_attempts: int, limit: int = 500) -> list[Run]:
    """Queue or end the runs whose lease has expired; give them as they stand now."""
    expired = (JobRun.state == State.RUNNING, JobRun.lease_until <= now, *ahead.also_passed(engine, JobRun.lease_until))
    oldest = select(*COLUMNS).where(*expired).order_by(JobRun.lease_until).limit(limit)
    if not _read(engine, oldest):
        return []
    with begin_write(engine) as connection:
        # What another transaction is at is not silent. Waiting for it here could mean that both wait.
        runs = [read_run(row) for row in connection.execute(oldest.with_for_update(skip_locked=True))]
        moves = [(run, decide_requeue(run, now=now, default_max_attempts=default_max_attempts)) for run in runs]
        released = [_release(connection, run, move, now=now) for run, move in moves if move is not None]
        return [run for run in released if run is not None]


def miss_unstarted(engine: Engine, *, now: datetime, limit: int = 500) -> list[Run]:
    """End the queued runs that may not begin any more; give them as they stand now."""
    waiting = (JobRun.state == State.QUEUED, JobRun.first_started_at.is_(None), JobRun.start_before < now)
    over = ahead.also_passed(engine, JobRun.start_before)
    overdue = select(*COLUMNS).where(*waiting, *over).order_by(JobRun.queued_at).limit(limit)
    if not _read(engine, overdue):
        return []
    with begin_write(engine) as connection:
        runs = [read_run(row) for row in connection.execute(overdue.with_for_update(skip_locked=True))]
        moves = [(run, decide_expiry(run, now=now)) for run in runs]
        missed = [_end(connection, run, move, now=now) for run, move in moves if move is not None]
        return [run for run in missed if run is not None]


def note_published(
    engine: Engine, published: Sequence[str], passed_over: Sequence[str], *, now: datetime, republish_after: timedelta
) -> None:
    """Note which queued runs got another message, and look at all of them again later."""
    with begin_write(engine) as connection:
        for ids, values in ((published, {"published_at": now}), (passed_over, {})):
            if ids:
                still_queued = (JobRun.id.in_(ids), JobRun.state == State.QUEUED)
                later = update(JobRun).where(*still_queued).values(republish_at=now + republish_after, **values)
                connection.execute(later)


def _decide_claim(connection: Connection, run: Run, *, now: datetime, max_attempts: int) -> ClaimDecision:
    # Only where the own clock would take something from others: the usual claim asks nobody for the time.
    if (run.state is State.RUNNING and lease_expired(run, now=now)) or is_too_late_to_start(run, now=now):
        now = ahead.judged_at(connection, now)
    return decide_claim(run, now=now, max_attempts=max_attempts)


def _take_resources(
    connection: Connection, run: Run, names: Collection[str], *, worker: str, now: datetime, lease_until: datetime
) -> Mapping[str, int] | Resource:
    if run.state is State.RUNNING:
        leases.free(connection, run.id)  # held by the claim that is taken over
    if not names:
        return {}
    mine = replace(run, fence=run.fence + 1)
    return leases.take(connection, names, run=mine, worker=worker, now=now, lease_until=lease_until)


def _start(
    connection: Connection,
    run: Run,
    decision: ClaimDecision,
    *,
    now: datetime,
    worker: str,
    lease: timedelta,
    max_attempts: int,
) -> Claim:
    taken = changes.move(
        connection,
        run,
        State.RUNNING,
        now=now,
        detail=decision.reason,
        counting=("attempt", "fence"),
        once=("first_started_at",),
        max_attempts=max_attempts,
        worker=worker,
        lease_until=now + lease,
        heartbeat_at=now,
        started_at=now,
        progress=None,
        progress_text=None,
    )
    if taken is None:
        return Claim(taken=False, reason="another worker was faster", run=changes.lock(connection, run.id))
    return Claim(taken=True, reason=decision.reason, run=taken)


def _defer(connection: Connection, run: Run, busy: Resource, *, now: datetime, lease: timedelta) -> Claim:
    """Let a run wait for a resource. That it still waits for the same holder is no news, and so no event."""
    reason, again_at = busy_text(busy), ask_again_at(busy, now=now)
    if run.state is State.QUEUED and run.error == reason:
        if run.published_at is not None and run.published_at > now:
            # Two messages that both came back each time would do so side by side until the run begins.
            return Claim(taken=False, reason=f"{reason}; another message asks again", run=run)
        again = {"seen_id": run.id, "new_published_at": again_at, "new_republish_at": again_at + lease}
        connection.execute(_DEFER_AGAIN, again)
        return Claim(taken=False, reason=reason, run=run, again_at=again_at)
    back = changes.waiting(reason=reason, now=now, published_at=again_at, republish_at=again_at + lease)
    deferred = changes.move(connection, run, State.QUEUED, now=now, event=Event.DEFERRED, **back)
    return Claim(taken=False, reason=reason, run=deferred or run, again_at=again_at)


def _after_failure(run: Run, failure: Failure) -> Move:
    if failure.called_off:
        return Move(to=State.CANCELLED, reason=failure.reason)
    return decide_after_error(
        attempt=run.attempt,
        max_attempts=run.max_attempts or 1,
        permanent=failure.permanent,
        cancel_requested=run.cancel_requested_at is not None,
        busy=failure.busy,
    )


def _end(connection: Connection, run: Run, move: Move, *, now: datetime, only_expired: bool = False) -> Run | None:
    ended = changes.end(connection, run, move, now=now, only_expired=only_expired)
    if ended is not None and move.to is State.CANCELLED:
        cancel_children(connection, run.id, reason=move.reason, now=now)
    return ended


def _release(connection: Connection, run: Run, move: Move, *, now: datetime) -> Run | None:
    # The lease may have been renewed since it was read.
    if move.to is not State.QUEUED:
        return _end(connection, run, move, now=now, only_expired=True)
    back = changes.waiting(reason=move.reason, now=now, published_at=None, republish_at=now)
    return changes.move(connection, run, State.QUEUED, now=now, event=Event.RELEASED, only_expired=True, **back)


def _read(engine: Engine, query: Any) -> list[Run]:
    with begin_read(engine) as connection:
        return [read_run(row) for row in connection.execute(query)]


def _seen(run: Run) -> dict[str, Any]:
    return {"seen_id": run.id, "seen_fence": run.fence}


def _duplicate(connection: Connection, wanted: WantedRun) -> str:
    same = (JobRun.kind == wanted.kind, JobRun.dedup_key == wanted.dedup_key)
    return f"run {connection.scalar(select(JobRun.id).where(*same))} has its dedup key"
