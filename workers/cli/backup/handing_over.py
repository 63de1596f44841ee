"""Handing a job of the backups to the crew, and following it to its end."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.cli.context import CrewContext, open_crew
from workers.cli.output import CliError, ExitCode, print_error, print_json, print_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightcrew.messages import Message
    from tasks.ledger.operations import Sight
    from tasks.ledger.runs import Run
    from workers.cli.jobs.following import Screen


class _SilentScreen:
    """For a script, which wants the end alone."""

    def show(self, sights: "Sequence[Sight]") -> None:
        """Show nothing."""

    def tell_trouble(self, trouble: str | None) -> None:
        """Print it to standard error."""
        from workers.cli.jobs.screens import tell_in_line

        tell_in_line(trouble)


def hand_over(make: "Callable[[], Message]", data_dir: Path | None, *, no_wait: bool, json: bool) -> ExitCode:
    """Enqueue the job; unless told not to, follow it to its end and show what came of it.

    Raises:
        CliError: the message is refused, the crew takes no backups, or there is no crew.
    """
    message = made(make)
    with open_crew(data_dir) as crew:
        check_enabled(crew)
        if no_wait:
            _show_queued(_enqueue(crew, message), message, json=json)
            return ExitCode.OK
        ended = follow_to_end(crew, message, json=json)
    return _show_end(ended, json=json)


def follow_to_end(crew: CrewContext, message: "Message", *, json: bool) -> "Run":
    """Enqueue a job, show how it goes on, and give it as it ended."""
    job_id = _enqueue(crew, message)
    with _screen(json=json) as screen:
        return _follow(crew, job_id, screen)


def made(make: "Callable[[], Message]") -> "Message":
    """Make a message of what the operator has said.

    Raises:
        CliError: the message is refused.
    """
    from nightcrew.errors import InvalidMessageError

    try:
        return make()
    except InvalidMessageError as error:
        raise CliError(str(error), code=ExitCode.USAGE) from error


def check_enabled(crew: CrewContext) -> None:
    """Refuse a crew that takes no backups.

    Raises:
        CliError: it is one.
    """
    if not crew.settings.backups.enabled:
        hint = "set backups.enabled to true and start the crew again"
        raise CliError("this crew takes no backups", hint=hint, code=ExitCode.CONFIGURATION)


def _enqueue(crew: CrewContext, message: "Message") -> str:
    from nightcrew import Nightcrew

    with Nightcrew(crew.broker_url, heeds_caps=False, signing_key=crew.settings.wire.first_key) as producer:
        return producer.enqueue(message).id


def _follow(crew: CrewContext, job_id: str, screen: "Screen") -> "Run":
    """Look until it has ended; until the crew has taken it in there is nothing to see."""
    from tasks.ledger.operations import look_at_runs
    from workers.cli.jobs.following import follow

    def has_ended(sights: "Sequence[Sight]") -> bool:
        return bool(sights) and sights[0].run.has_ended

    try:
        seen = follow(lambda: look_at_runs(crew.runtime, [job_id]), screen, is_over=has_ended, timeout_s=None)
    except KeyboardInterrupt:
        msg = f"job {job_id} goes on without being watched"
        raise CliError(msg, hint=f"nightcrew jobs watch {job_id}; to end it: nightcrew jobs cancel {job_id}") from None
    assert seen is not None  # noqa: S101  it was followed without a limit
    return seen[0].run


def _screen(*, json: bool) -> "AbstractContextManager[Screen]":
    from workers.cli.jobs.screens import LineScreen, LiveScreen

    if json:
        return nullcontext(_SilentScreen())
    return LiveScreen() if sys.stdout.isatty() else nullcontext(LineScreen())


def _show_queued(job_id: str, message: "Message", *, json: bool) -> None:
    if json:
        print_json({"id": job_id, "kind": message.kind, "state": "queued"})
    else:
        print_line(f"{job_id} {message.kind}; to follow it: nightcrew jobs watch {job_id}")


def _show_end(run: "Run", *, json: bool) -> ExitCode:
    is_well = run.state == "succeeded"
    document: dict[str, Any] = {"id": run.id, "kind": run.kind, "state": run.state}
    if json:
        print_json(document | ({"result": run.result} if is_well else {"error": run.error}))
    elif is_well:
        for line in _lines(run.result):
            print_line(line)
    else:
        print_error(f"{run.kind} ended as {run.state}: {run.error}", hint=f"nightcrew jobs show {run.id}")
    return ExitCode.OK if is_well else ExitCode.FAILED


def _lines(result: Any) -> list[str]:
    """Give a result as lines of names and values; lists of objects as a line each."""
    if not isinstance(result, dict):
        return [str(result)]
    lines = []
    for name, value in result.items():
        if isinstance(value, list):
            lines += [f"{name}: {_flat(item)}" for item in value]
        else:
            lines.append(f"{name}: {_flat(value)}")
    return lines


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)
