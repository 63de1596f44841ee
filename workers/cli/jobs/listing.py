"""`nightcrew jobs list`."""

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.jobs.options import with_filter
from workers.cli.options import AsJson, DataDir
from workers.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tasks.ledger.filters import Filter

_LONGEST_CELL = 60


@with_filter
def list_jobs(
    wanted: "Filter",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 50,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List jobs, the last queued first.

    JSON: {"jobs": [{"id", "kind", "queue", "state", "attempt", "worker", "progress", "progress_text", "payload",
    "result", "error", "correlation_id", "dedup_key", "enqueued_at", "queued_at", "started_at", "finished_at", "entry",
    "slot_at", "parent_id", "cancel_requested_at", "cancel_reason", "late", …}]}; every column of the table `job_runs`,
    and `late`, which is null before the start and without a slot
    """
    from tasks.ledger.operations import list_runs

    with open_crew(data_dir) as crew:
        runs = list_runs(crew.runtime, wanted, limit=limit)
    if json:
        print_json({"jobs": [run.to_json() for run in runs]})
        return
    cells = [
        (run.id, run.kind, run.state, run.attempt, run.queued_at, run.finished_at, shortened(run.error)) for run in runs
    ]
    print_table(("id", "kind", "state", "attempt", "queued", "finished", "error"), cells)


def shortened(text: str | None) -> str:
    """Give the first line of a text, cut to fit a cell."""
    line = (text or "").partition("\n")[0]
    return line if len(line) <= _LONGEST_CELL else f"{line[: _LONGEST_CELL - 1]}…"
