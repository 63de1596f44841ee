"""The hold that a job has on its run while it works: `runtime.attempt`.

A thread renews the claim. The work itself asks at its checkpoints whether it still holds the run and is still wanted:
that is where a worker that was stopped for longer than its lease notices, and where a cancelled run ends.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from tasks.errors import CancelledError, LeaseLostError, PermanentError, ResourceBusyError, TransientError
from tasks.ledger.lease import RENEWALS_PER_LEASE, Lease
from tasks.ledger.resources import Resource, busy_text
from tasks.ledger.runs import MAX_NAME_CHARACTERS, WantedRun, clean
from tasks.ledger.states import State
from tasks.ledger.store import children, leases, mirror, queries, runs
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection

    from nightcrew.messages import Message
    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime

LOOK_EVERY_S: Final = 1.0
"""A checkpoint asks the database at most this often; in between it costs a look at the clock."""

REPORT_EVERY_S: Final = 0.5

LOG_EVERY_S: Final = 30.0
"""Long work shows in the log that it goes on, and does not fill it."""

_MAX_PROGRESS_CHARACTERS: Final = 200

_log = structlog.get_logger(__name__)


class RunAttempt:
    """The hold on one claimed run. See `tasks.runtime.Attempt` for what each method promises a job."""

    def __init__(
        self,
        run: Run,
        runtime: Runtime,
        *,
        fences: Mapping[str, int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a claim with the fences of its resources; `monotonic` gives seconds, from any start."""
        self._run = run
        self._runtime = runtime
        self._monotonic = monotonic
        self._fences = dict(fences or {})
        self._lease = Lease(
            self._renew,
            interval_s=runtime.ledger.lease.total_seconds() / RENEWALS_PER_LEASE,
            show=self._show_begun,
        )
        self._changing = threading.Lock()  # taking a resource and renewing what is held, which must agree on the count
        self._completes = self._is_shown = False
        self._looked_at_s = self._reported_at_s = monotonic() - LOOK_EVERY_S
        self._logged_at_s = monotonic()

    @property
    def run_id(self) -> str:
        """The run."""
        return self._run.id

    @property
    def number(self) -> int:
        """Which attempt this is, from 1."""
        return self._run.attempt

    @property
    def fence(self) -> int:
        """That of the claim."""
        return self._run.fence

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the claim and its resources during the block."""
        with self._lease:
            yield

    def checkpoint(self) -> None:
        """Stop here if the work is not wanted any more."""
        if self._lease.is_lost:
            raise _lost(self._run)
        now_s = self._monotonic()
        if now_s - self._looked_at_s < LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        self._heed(runs.look(self._runtime.engine, self._run, resources=len(self._fences)))

    def report(self, share: float, text: str = "") -> None:
        """Show how far the work is. It writes: never to be called inside a transaction of the job's own."""
        now_s = self._monotonic()
        if now_s - self._reported_at_s < REPORT_EVERY_S:
            self.checkpoint()
            return
        if self._lease.is_lost:
            raise _lost(self._run)
        self._reported_at_s = self._looked_at_s = now_s
        current = runs.note_progress(
            self._runtime.engine,
            self._run,
            share=min(max(share, 0.0), 1.0),
            text=clean(text, limit=_MAX_PROGRESS_CHARACTERS),
            resources=len(self._fences),
        )
        if current is not None:
            self._show(current)
            self._tell(share, text, now_s)
        self._heed(current)

    def guard(self, connection: Connection) -> None:
        """Make a transaction conditional on the hold, which nobody else can take before its end.

        What counts is the fence, not the clock: a lease that has run out, and that nobody has taken over, is as good
        as any and is prolonged here. On PostgreSQL the row of the run stays locked until the transaction ends: call
        this late in a long one.
        """
        options = self._runtime.ledger
        held = runs.hold(
            connection, self._run, now=self._runtime.clock(), lease=options.lease, resources=len(self._fences)
        )
        if held is None:
            raise _lost(self._run)

    def complete_in(self, connection: Connection, result: Any) -> None:
        """Record success in a transaction of the job's own."""
        self.guard(connection)
        done = runs.succeed_in(connection, self._run, result=storable(result), now=self._runtime.clock())
        if done is None:
            raise _lost(self._run)
        self._completes = True

    def completed(self) -> Run | None:
        """Give the run when `complete_in` has succeeded and its transaction was committed."""
        if not self._completes:
            return None
        run = queries.by_id(self._runtime.engine, self._run.id)
        return run if run and (run.state, run.fence) == (State.SUCCEEDED, self._run.fence) else None

    def take(self, resource: str) -> int:
        """Take a resource until the run ends. It writes: never to be called inside a transaction of the job's own."""
        if resource in self._fences:
            return self._fences[resource]
        now, lease = self._runtime.clock(), self._runtime.ledger.lease
        with self._changing, begin_write(self._runtime.engine) as connection:
            self.guard(connection)
            taken = leases.take(
                connection,
                [resource],
                run=self._run,
                worker=self._runtime.worker_name,
                now=now,
                lease_until=now + lease,
            )
            if isinstance(taken, Resource):
                raise ResourceBusyError(busy_text(taken))
            self._fences |= taken  # a renewal after this that found another count would take the claim for lost
        return taken[resource]

    def spawn(self, message: Message, *, key: str) -> str:
        """Ask for a child run. It writes: never to be called inside a transaction of the job's own."""
        wanted = _child(self._run, message, key=key, runtime=self._runtime)
        with begin_write(self._runtime.engine) as connection:
            self.guard(connection)
            after = self._runtime.ledger.republish_after
            new = children.ask(connection, self._run, wanted, now=self._runtime.clock(), republish_after=after)
        if new is not None:
            self._publish(new, message)
        return wanted.id

    def _publish(self, child: Run, message: Message) -> None:
        try:
            mirror.write(self._runtime.redis, [child], ttl=self._runtime.ledger.mirror_ttl)
            self._runtime.publisher.publish(
                message, job_id=child.id, correlation_id=child.correlation_id, enqueued_at=child.enqueued_at
            )
        except TransientError as error:
            # It is in the ledger, and so it will be run: the reconciler publishes what nobody starts.
            _log.warning("job.child_postponed", child=child.id, reason=str(error))

    def _heed(self, current: Run | None) -> None:
        if current is None:
            raise _lost(self._run)
        if current.cancel_requested_at is not None:
            raise CancelledError(current.cancel_reason)

    def _tell(self, share: float, text: str, now_s: float) -> None:
        """Show it to Flower, and from time to time to the log."""
        self._runtime.show_progress(share, text)
        if now_s - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.info("job.progressed", share=round(share, 3), text=text)

    def _show_begun(self) -> None:
        """Tell apps that the run works, and no longer waits; its progress says so as well."""
        if not self._is_shown:
            self._show(self._run)

    def _show(self, current: Run) -> None:
        self._is_shown = True
        try:
            mirror.write(self._runtime.redis, [current], ttl=self._runtime.ledger.mirror_ttl)
        except TransientError as error:
            # The row has it, and the next report comes soon.
            _log.warning("job.mirror_postponed", reason=str(error))

    def _renew(self) -> bool:
        options = self._runtime.ledger
        with self._changing:
            renewed = runs.renew(
                self._runtime.engine,
                self._run,
                now=self._runtime.clock(),
                lease=options.lease,
                resources=len(self._fences),
            )
        return renewed or self._completes  # once it has ended by `complete_in`, nothing is left to lose


def storable(result: Any) -> Any:
    """Give a result that the ledger can keep.

    Raises:
        PermanentError: it is no JSON.
    """
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the job gave a result that is no JSON: {error}"
        raise PermanentError(msg) from error
    return result


def child_id(parent_id: str, kind: str, key: str) -> str:
    """Make the id of a child, the same each time: a UUIDv7 (RFC 9562) with the time of the parent's."""
    digest = hashlib.sha256(f"{parent_id}/{kind}/{key}".encode()).digest()
    parent, rest = uuid.UUID(parent_id).int, int.from_bytes(digest[:10], "big")
    stamped = (parent >> 80) << 80 | rest
    return str(uuid.UUID(int=stamped & ~(0xF << 76) & ~(0b11 << 62) | 0x7 << 76 | 0b10 << 62))


def _child(parent: Run, message: Message, *, key: str, runtime: Runtime) -> WantedRun:
    dedup_key = f"{parent.id}:{key}"
    if len(dedup_key) > MAX_NAME_CHARACTERS or clean(key) != key:
        msg = f"key of a child must be text of at most {MAX_NAME_CHARACTERS - 37} characters without NUL: {key!r:.80}"
        raise PermanentError(msg)
    return WantedRun(
        id=child_id(parent.id, message.kind, key),
        kind=message.kind,
        queue=message.queue,
        dedup_key=dedup_key,
        payload=message.to_payload(),
        correlation_id=parent.correlation_id,
        enqueued_at=runtime.clock(),
        parent_id=parent.id,
    )


def _lost(run: Run) -> LeaseLostError:
    msg = f"attempt {run.attempt} of run {run.id} does not hold it any more"
    return LeaseLostError(msg)
