"""`nightcrew jobs watch`."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.jobs.refusals import refusals
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tasks.ledger.operations import Sight
    from tasks.runtime import Runtime
    from workers.cli.jobs.following import Screen


def watch(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs; without one: all.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to watch at most; 0: no end.")] = 0,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Watch jobs until they have ended, or without an id all that run and wait, until Ctrl-C.

    On a terminal as bars, into a pipe as one line for each change. A database or broker that is away is waited for.

    Exit code: 0 all succeeded, 1 one ended otherwise, or not before --timeout.

    JSON: one object in a line for each change: {"at", "id", "kind", "state", "attempt", "worker", "progress",
    "progress_text", "error", "result", "ahead", "next_try_at"}; `ahead` counts the jobs whose message was put on the
    same queue before, `next_try_at` is when a job without a message gets its next one
    """
    with open_crew(data_dir) as crew, refusals(hint="nightcrew jobs list"), _screen(json=json) as screen:
        if job_ids:
            return _watch_named(crew.runtime, job_ids, screen, timeout_s or None)
        _watch_all(crew.runtime, screen, timeout_s or None)
    return ExitCode.OK


def _watch_named(runtime: "Runtime", job_ids: list[str], screen: "Screen", timeout_s: float | None) -> ExitCode:
    from workers.cli.jobs.following import Named, follow

    seen = follow(Named(runtime, job_ids), screen, is_over=_have_ended, timeout_s=timeout_s)
    if seen is None:
        msg = f"not all have ended within {timeout_s:g} s"
        raise CliError(msg, hint=f"nightcrew jobs show {job_ids[0]}")
    return ExitCode.OK if all(sight.run.state == "succeeded" for sight in seen) else ExitCode.FAILED


def _watch_all(runtime: "Runtime", screen: "Screen", timeout_s: float | None) -> None:
    from workers.cli.jobs.following import Live, follow

    try:
        follow(Live(runtime), screen, is_over=lambda _sights: False, timeout_s=timeout_s)
    except KeyboardInterrupt:
        return  # the way to end it


def _have_ended(sights: "Sequence[Sight]") -> bool:
    return all(sight.run.has_ended for sight in sights)


def _screen(*, json: bool) -> "AbstractContextManager[Screen]":
    from workers.cli.jobs.screens import JsonScreen, LineScreen, LiveScreen

    if json:
        return nullcontext(JsonScreen())
    return LiveScreen() if sys.stdout.isatty() else nullcontext(LineScreen())
