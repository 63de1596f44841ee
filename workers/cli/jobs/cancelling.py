"""`nightcrew jobs cancel`."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.jobs.options import OneJob, Terms, check_choice, with_filter, with_terms
from workers.cli.jobs.refusals import refusals
from workers.cli.jobs.treating import Order, carry_out, operator, tell
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_error

if TYPE_CHECKING:
    from tasks.ledger.filters import Filter
    from tasks.ledger.runs import Run
    from tasks.ledger.treatments import Treatment
    from tasks.runtime import Runtime

_POLL_S = 0.2


@with_filter
@with_terms
def cancel(
    wanted: "Filter",
    terms: Terms,
    job_id: OneJob = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is shown with the job.")] = "",
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until all have stopped.")] = 0,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Call jobs off, and whatever they have asked for: one, or all of a filter.

    A job that waits ends at once. One at work is asked to stop and does so at its next checkpoint; the request outlives
    workers, broker and restarts. A filter without --state means those that have not ended. What it finds is shown and
    asked about, unless --yes is given.

    Exit code: 0 all were called off, or none was found; 1 one was refused, or with --wait has not stopped in time or
    was done before; 4 apps do not see it yet, because the broker is away.

    JSON: {"dry_run", "jobs": [{"id", "kind", "state", "action", "reason", "problem"}], "counts": {ACTION: COUNT}};
    actions are cancel (ended), request (asked to stop), wait (asked before) and refuse; children have rows of their own
    """
    if not terms.dry_run and not reason.strip():
        raise CliError("say why, with --reason TEXT", hint="nightcrew jobs cancel --help", code=ExitCode.USAGE)
    check_choice(job_id, wanted, verb="cancel")
    with open_crew(data_dir) as crew, refusals(hint="nightcrew jobs list --state running --state queued"):
        terms = replace(terms, yes=terms.yes or job_id is not None)
        order = _order(crew.runtime, reason, terms, json=json)
        found = _select(crew.runtime, wanted, job_id, limit=terms.limit)
        treatments = carry_out(order, found, meant=str(wanted))
        overdue, treatments = _wait(crew.runtime, treatments, wait_s) if wait_s else (0, treatments)
        code = tell(order, treatments)
    return ExitCode.FAILED if overdue and code == ExitCode.OK else code


def _order(runtime: "Runtime", reason: str, terms: Terms, *, json: bool) -> Order:
    from tasks.ledger.operations import cancel_runs, plan_cancels

    return Order(
        verb="cancel",
        plan=partial(plan_cancels, runtime),
        act=partial(cancel_runs, runtime, reason=reason.strip(), by=operator()),
        terms=terms,
        json=json,
    )


def _select(runtime: "Runtime", wanted: "Filter", job_id: str | None, *, limit: int | None) -> list[str]:
    from tasks.ledger.operations import find_run, select_runs, take_in_new
    from tasks.ledger.states import State

    if job_id is not None:
        return [find_run(runtime, job_id).id]
    if (problem := take_in_new(runtime)) is not None:
        print_error(f"what apps have just asked for is not among them: {problem}", hint="nightcrew doctor")
    states = wanted.states or frozenset({State.QUEUED, State.RUNNING})
    return select_runs(runtime, replace(wanted, states=states), limit=limit)


def _wait(runtime: "Runtime", treatments: "Sequence[Treatment]", wait_s: float) -> "tuple[int, list[Treatment]]":
    """Wait until those have ended that were asked to stop; give how many were not stopped, and all as they stand."""
    asked = [one.id for one in treatments if one.action in {"request", "wait"}]
    deadline = time.monotonic() + wait_s
    runs = _look(runtime, asked)
    while not all(run.has_ended for run in runs) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        runs = _look(runtime, asked)
    now_at = {run.id: run for run in runs}
    told = [_as_it_stands(one, now_at[one.id]) if one.id in now_at else one for one in treatments]
    return sum(run.state != "cancelled" for run in runs), told


def _look(runtime: "Runtime", run_ids: Sequence[str]) -> "list[Run]":
    from tasks.ledger.operations import look_at_runs

    return [sight.run for sight in look_at_runs(runtime, run_ids)]


def _as_it_stands(one: "Treatment", run: "Run") -> "Treatment":
    if run.state == "cancelled":
        return replace(one, state=run.state, action="cancel", reason=run.error or one.reason)
    return replace(one, state=run.state)
