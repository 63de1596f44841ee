"""Putting ended runs on their queues again, one or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import PermanentError, TransientError
from tasks.ledger import reconciliation
from tasks.ledger.operations.finding import find_run, in_batches
from tasks.ledger.store import mirror, restarting, selecting
from tasks.ledger.treatments import plan_retry_of, treatment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.ledger.runs import Run
    from tasks.ledger.treatments import Treatment
    from tasks.runtime import Runtime


class NotRetryableError(PermanentError):
    """The run or letter cannot be tried again as it stands; the text says why."""


def plan_retries(runtime: Runtime, run_ids: Iterable[str]) -> Iterator[list[Treatment]]:
    """Say in parts what `retry_runs` would do."""
    for batch in in_batches(run_ids):
        yield [plan_retry_of(run) for run in selecting.by_ids(runtime.engine, batch)]


def retry_runs(runtime: Runtime, run_ids: Iterable[str], *, by: str) -> Iterator[list[Treatment]]:
    """Put ended runs on their queues again, with all their attempts; tell in parts what came of each.

    Each part is committed when it is given. A run whose message the broker did not take is queued all the same: its
    treatment names the problem, the reconciler publishes it, and the broker is not asked for the parts after it.

    Raises:
        TransientError: the database was in the way; the parts before have been done.
    """
    problem: str | None = None
    for batch in in_batches(run_ids):
        restarts = restarting.restart_many(runtime.engine, batch, now=runtime.clock(), detail=f"retried by {by}")
        restarted = [restart.run for restart in restarts if restart.verdict.yes]
        problem = problem or _publish(runtime, restarted)
        yield [
            treatment(restart.run, "retry", restart.verdict.reason, problem=problem)
            if restart.verdict.yes
            else treatment(restart.run, "refuse", restart.verdict.reason)
            for restart in restarts
        ]


def retry_run(runtime: Runtime, run_id: str, *, by: str = "an operator") -> Run:
    """Put an ended run on its queue again, with all its attempts; give it as it stands now.

    Raises:
        UnknownRunError: see `find_run`.
        NotRetryableError: it succeeded, or has not ended.
        TransientError: the broker did not take its message; the run is queued, and the reconciler publishes it.
    """
    run = find_run(runtime, run_id)
    reconciliation.publish_now(runtime, restart(runtime, run, by=by))
    return find_run(runtime, run.id)


def restart(runtime: Runtime, run: Run, *, by: str) -> Run:
    """Queue an ended run again without publishing it; give it as it stands now.

    Raises:
        NotRetryableError: it succeeded, has not ended, or is gone.
        TransientError: the broker did not take its mirror; the run is queued.
    """
    restarts = restarting.restart_many(runtime.engine, [run.id], now=runtime.clock(), detail=f"retried by {by}")
    if not restarts or not restarts[0].verdict.yes:
        reason = restarts[0].verdict.reason if restarts else "it is gone"
        msg = f"run {run.id} cannot be retried: {reason}"
        raise NotRetryableError(msg)
    mirror.write(runtime.redis, [restarts[0].run], ttl=runtime.ledger.mirror_ttl)
    return restarts[0].run


def _publish(runtime: Runtime, restarted: list[Run]) -> str | None:
    """Publish runs; give what was in the way. All of them are queued and due, so the reconciler makes up for it."""
    try:
        mirror.write(runtime.redis, restarted, ttl=runtime.ledger.mirror_ttl)
        reconciliation.publish_now(runtime, *restarted)
    except TransientError as error:
        return f"its message is not out yet: {error}"
    return None
