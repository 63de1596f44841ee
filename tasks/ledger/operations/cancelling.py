"""Calling runs off, one or many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.errors import TransientError
from tasks.ledger.operations.finding import in_batches
from tasks.ledger.store import cancelling, mirror, selecting
from tasks.ledger.treatments import plan_cancel_of, treatment, treatment_of_child

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tasks.ledger.runs import Run
    from tasks.ledger.store.cancelling import Cancellation
    from tasks.ledger.treatments import Treatment
    from tasks.runtime import Runtime


def plan_cancels(runtime: Runtime, run_ids: Iterable[str]) -> Iterator[list[Treatment]]:
    """Say in parts what `cancel_runs` would do; what the runs have asked for goes with them and is not named."""
    for batch in in_batches(run_ids):
        now = runtime.clock()
        yield [plan_cancel_of(run, now=now) for run in selecting.by_ids(runtime.engine, batch)]


def cancel_runs(runtime: Runtime, run_ids: Iterable[str], *, reason: str, by: str) -> Iterator[list[Treatment]]:
    """Call runs off, and what they have asked for; tell in parts what came of each.

    What waits ends at once. What is at work ends at its next checkpoint: the request stands in the database, and needs
    neither the broker nor the worker that has the run now.

    Raises:
        TransientError: the database was in the way; whatever was told before has been done.
    """
    with_parent: set[str] = set()
    for batch in in_batches(run_ids):
        told: list[Treatment] = []
        now, seen = runtime.clock(), selecting.by_ids(runtime.engine, batch)
        ended = cancelling.cancel_queued(runtime.engine, batch, reason=reason, by=by, now=now)
        at_once, changed = {run.id: run for run in ended}, list(ended)
        for run in seen:
            if run.id in with_parent:
                continue
            if run.id in at_once:
                told.append(treatment(at_once[run.id], "cancel", "nobody works on the run"))
                continue
            # Each in a transaction of its own, with its children: several would wait for one another's rows.
            done = cancelling.cancel(runtime.engine, run.id, reason=reason, by=by, now=runtime.clock())
            with_parent.update(child.id for child in done.changed)
            changed += done.changed
            told += _tell(run, done)
        yield _with_problem(told, _mirror(runtime, changed))


def _mirror(runtime: Runtime, changed: Sequence[Run]) -> str | None:
    """Show apps the new states; give what was in the way. The reconciler makes up for it."""
    try:
        mirror.write(runtime.redis, changed, ttl=runtime.ledger.mirror_ttl)
    except TransientError as error:
        return f"apps do not see it yet: {error}"
    return None


def _tell(run: Run, done: Cancellation) -> list[Treatment]:
    current = next((one for one in done.changed if one.id == run.id), run)
    children = [treatment_of_child(child) for child in done.changed if child.id != run.id]
    return [treatment(current, done.decision.action, done.decision.reason), *children]


def _with_problem(told: list[Treatment], problem: str | None) -> list[Treatment]:
    if problem is None:
        return told
    return [replace(one, problem=problem) if one.action in {"cancel", "request"} else one for one in told]
