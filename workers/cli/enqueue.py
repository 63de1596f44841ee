"""`nightcrew enqueue`: put a job on its queue."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, console, print_error, print_json, print_line, printable

if TYPE_CHECKING:
    from nightcrew import JobHandle
    from nightcrew.messages import Message

app = typer.Typer()

_POLL_S = 0.1


@app.command()
def enqueue(
    kind: Annotated[str, typer.Argument(help="Kind of the message, such as ledger.canary.")],
    field: Annotated[list[str] | None, typer.Option("--field", "-f", metavar="NAME=VALUE", help="A field.")] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for its end; 0: do not.")] = 0,
    dedup_key: Annotated[
        str | None, typer.Option("--dedup-key", help="Of jobs of a kind with the same key only the first is run.")
    ] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Put a job on its queue; with --wait exit 1 when it fails or does not end in time.

    JSON: {"id", "kind", "state", "result"?, "error"?}; the state is `unknown` until the crew has seen the job
    """
    from nightcrew import Nightcrew

    message = _message(kind, field or [])
    with (
        open_crew(data_dir) as crew,
        Nightcrew(crew.broker_url, heeds_caps=False, signing_key=crew.settings.wire.first_key) as producer,
    ):
        job = producer.enqueue(message, dedup_key=dedup_key)
        if not json:
            print_line(f"{job.id} {message.kind}")
        document = _wait(job, wait_s) if wait_s else {"id": job.id, "kind": message.kind, "state": job.state()}
    if json:
        print_json(document)
    elif "result" in document:
        print_line(f"{document['state']}: {document['result']}")
    if "error" not in document:
        return ExitCode.OK
    if not json:
        print_error(document["error"], hint=f"nightcrew jobs show {document['id']}")
    return ExitCode.FAILED


def _message(kind: str, assignments: list[str]) -> "Message":
    from nightcrew.errors import InvalidMessageError
    from nightcrew.messages import kinds, message_type
    from workers.cli.message_fields import make_message

    if kind not in kinds():
        msg = f"no kind {kind!r}"
        raise CliError(msg, hint=f"one of {', '.join(sorted(kinds()))}", code=ExitCode.USAGE)
    try:
        return make_message(message_type(kind), assignments)
    except InvalidMessageError as error:
        raise CliError(str(error), code=ExitCode.USAGE) from error


def _wait(job: "JobHandle", wait_s: float) -> dict[str, Any]:
    from nightcrew.errors import JobFailedError, JobTimeoutError

    deadline = time.monotonic() + wait_s
    if sys.stderr.isatty():
        _watch(job, deadline)
    document: dict[str, Any] = {"id": job.id, "kind": job.kind}
    try:
        result = job.result(timeout_s=max(0.0, deadline - time.monotonic()))
    except JobTimeoutError:
        state = job.state()
        return {**document, "state": state, "error": f"did not end within {wait_s:g} s; its state is {state}"}
    except JobFailedError as error:
        return {**document, "state": job.state(), "error": str(error)}
    return {**document, "state": "succeeded", "result": result}


def _watch(job: "JobHandle", deadline: float) -> None:
    """Draw a bar until the job has ended or time is over; standard output is left to the result."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        bar = bars.add_task("queued", total=1.0)
        while (state := job.state()) in {"unknown", "queued", "running"} and time.monotonic() < deadline:
            progress = job.progress()
            bars.update(bar, description=printable(progress.text or state), completed=progress.fraction)
            time.sleep(_POLL_S)
