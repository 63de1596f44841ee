"""`nightcrew jobs`: what became of jobs."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.ledger.states import State
    from tasks.runtime import Runtime

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="Its id, or a beginning of it that no other job has.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")]

_LONGEST_CELL = 60


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only jobs of this kind.")] = None,
    limit: Limit = 50,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List jobs, the last queued first.

    JSON: {"jobs": [{"id", "kind", "queue", "state", "attempt", "worker", "progress", "progress_text", "payload",
    "result", "error", "correlation_id", "dedup_key", "enqueued_at", "queued_at", "started_at", "finished_at", …}]};
    every column of the table `job_runs`
    """
    from tasks.ledger.operations import list_runs

    with open_crew(data_dir) as crew:
        runs = list_runs(crew.runtime, state=_state(state), kind=kind, limit=limit)
    if json:
        print_json({"jobs": [run.to_json() for run in runs]})
        return
    cells = [
        (run.id, run.kind, run.state, run.attempt, run.queued_at, run.finished_at, _shortened(run.error))
        for run in runs
    ]
    print_table(("id", "kind", "state", "attempt", "queued", "finished", "error"), cells)


@app.command()
def show(job_id: JobId, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Show all that is known of a job.

    JSON: {"job": {…}}, keys as in `jobs list`
    """
    from tasks.ledger.operations import find_run

    with open_crew(data_dir) as crew, _refusals(hint="nightcrew jobs list"):
        run = find_run(crew.runtime, job_id)
    if json:
        print_json({"job": run.to_json()})
    else:
        _print_fields(run.to_json())


@app.command()
def retry(job_id: JobId, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Put a job that failed, is dead or was missed on its queue again, with all its attempts.

    JSON: {"job": {…}}, keys as in `jobs list`
    """
    from tasks.ledger.operations import retry_run

    with open_crew(data_dir) as crew, _refusals(hint="nightcrew jobs list"):
        run = retry_run(crew.runtime, job_id)
    if json:
        print_json({"job": run.to_json()})
    else:
        print_line(f"{run.id} {run.kind} is {run.state}")


@app.command()
def dead(
    show_number: Annotated[int | None, typer.Option("--show", metavar="N", help="Show one of them whole.")] = None,
    retry_number: Annotated[int | None, typer.Option("--retry", metavar="N", help="Try one of them again.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were tried again.")] = False,
    limit: Limit = 50,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List messages and log entries that nobody could read, the last received first; show one, or try it again.

    JSON: {"dead_letters": [{"id", "source", "source_id", "kind", "job_id", "reason", "body", "received_at",
    "retried_at"}]}; with --show and --retry {"dead_letter": {…}}
    """
    from tasks.ledger.operations import find_dead_letter, retry_dead_letter

    if show_number is not None and retry_number is not None:
        raise CliError("--show and --retry do not go together", code=ExitCode.USAGE)
    with open_crew(data_dir) as crew, _refusals(hint="nightcrew jobs dead --all"):
        if show_number is not None:
            letter = find_dead_letter(crew.runtime, show_number).to_json()
        elif retry_number is not None:
            letter = retry_dead_letter(crew.runtime, retry_number).to_json()
        else:
            _list_letters(crew.runtime, everything=everything, limit=limit, json=json)
            return
    if json:
        print_json({"dead_letter": letter})
    elif retry_number is not None:
        print_line(f"{retry_number} is on its way again: {letter['source']}")
    else:
        _print_fields(letter)


def _list_letters(runtime: "Runtime", *, everything: bool, limit: int, json: bool) -> None:
    from tasks.ledger.operations import list_dead_letters

    letters = list_dead_letters(runtime, include_retried=everything, limit=limit)
    if json:
        print_json({"dead_letters": [letter.to_json() for letter in letters]})
        return
    cells = [
        (letter.id, letter.received_at, letter.source, letter.kind, _shortened(letter.reason), letter.retried_at)
        for letter in letters
    ]
    print_table(("number", "received", "source", "kind", "reason", "tried again"), cells)


@contextmanager
def _refusals(*, hint: str) -> "Iterator[None]":
    """Say where ids and numbers are found when one is wrong."""
    from tasks.ledger.operations import NotRetryableError, UnknownLetterError, UnknownRunError

    try:
        yield
    except (UnknownRunError, UnknownLetterError, NotRetryableError) as error:
        raise CliError(str(error), hint=hint) from error


def _state(name: str | None) -> "State | None":
    from tasks.ledger.states import State

    if name is None:
        return None
    try:
        return State(name)
    except ValueError:
        msg = f"no state {name!r}"
        raise CliError(msg, hint=f"one of {', '.join(State)}", code=ExitCode.USAGE) from None


def _print_fields(fields: "Mapping[str, Any]") -> None:
    print_table(("field", "value"), [(name, value) for name, value in fields.items() if value is not None])


def _shortened(text: str | None) -> str:
    line = (text or "").partition("\n")[0]
    return line if len(line) <= _LONGEST_CELL else f"{line[: _LONGEST_CELL - 1]}…"
