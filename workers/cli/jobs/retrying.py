"""`nightcrew jobs retry`."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from workers.cli.context import open_crew
from workers.cli.jobs.options import OneJob, Terms, check_choice, with_filter, with_terms
from workers.cli.jobs.refusals import refusals
from workers.cli.jobs.treating import Order, carry_out, operator, tell
from workers.cli.options import AsJson, DataDir
from workers.cli.output import ExitCode, print_json, print_line

if TYPE_CHECKING:
    from tasks.ledger.filters import Filter
    from tasks.runtime import Runtime


@with_filter
@with_terms
def retry(
    wanted: "Filter",
    terms: Terms,
    job_id: OneJob = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Put jobs that ended without success on their queues again, with all their attempts: one, or all of a filter.

    A filter without --state means those that failed, are dead or were missed; cancelled ones only when told. What it
    finds is shown and asked about, unless --yes is given.

    Exit code: 0 all were queued again, or none was found; 1 one was refused; 4 one waits for the broker.

    JSON of one job: {"job": {…}}, keys as in `jobs list`; of a filter, and with --dry-run: {"dry_run", "jobs": [{"id",
    "kind", "state", "action", "reason", "problem"}], "counts": {ACTION: COUNT}}; actions are retry and refuse
    """
    check_choice(job_id, wanted, verb="retry")
    with open_crew(data_dir) as crew, refusals(hint="nightcrew jobs list"):
        if job_id is not None and not terms.dry_run:
            return _retry_one(crew.runtime, job_id, json=json)
        order = _order(crew.runtime, terms, json=json)
        found = _select(crew.runtime, wanted, job_id, limit=terms.limit)
        return tell(order, carry_out(order, found, meant=str(wanted)))


def _retry_one(runtime: "Runtime", job_id: str, *, json: bool) -> ExitCode:
    from tasks.ledger.operations import retry_run

    run = retry_run(runtime, job_id, by=operator())
    if json:
        print_json({"job": run.to_json()})
    else:
        print_line(f"{run.id} {run.kind} is {run.state}")
    return ExitCode.OK


def _order(runtime: "Runtime", terms: Terms, *, json: bool) -> Order:
    from tasks.ledger.operations import plan_retries, retry_runs

    return Order(
        verb="retry",
        plan=partial(plan_retries, runtime),
        act=partial(retry_runs, runtime, by=operator()),
        terms=terms,
        json=json,
    )


def _select(runtime: "Runtime", wanted: "Filter", job_id: str | None, *, limit: int | None) -> list[str]:
    from tasks.ledger.operations import find_run, select_runs
    from tasks.ledger.states import State

    if job_id is not None:
        return [find_run(runtime, job_id).id]
    states = wanted.states or frozenset({State.FAILED, State.DEAD, State.MISSED})
    return select_runs(runtime, replace(wanted, states=states), limit=limit)
