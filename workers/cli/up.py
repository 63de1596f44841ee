"""`nightcrew up`: run the whole crew in this terminal."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, console, print_json, printable
from workers.settings import Settings, load_settings
from workers.supervisor.errors import BrokerError, ChildStartError, StopRequestedError, SupervisorError

if TYPE_CHECKING:
    from workers.supervisor.child import CrewEvent
    from workers.supervisor.crew import Crew

app = typer.Typer()

_STYLES = {"ready": "green", "died": "bold red", "unstartable": "bold red", "unrecorded": "bold red"}
_NAME_WIDTH = 14


@app.command()
def up(
    data_dir: DataDir = None,
    json: AsJson = False,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Run without the web page.")] = False,
) -> ExitCode:
    """Run broker, workers, beat and Flower until Ctrl-C.

    Ctrl-C lets running jobs finish and ends everyone within 20 s; a second one ends them at once.

    JSON, once everyone is ready: {"data_dir", "pid", "broker": {"url"}, "flower": {"url", "user", "password_file"},
    "children": {NAME: PID}, "logs"}
    """
    from workers.supervisor.crew import Crew

    settings = load_settings(data_dir)
    terminal = _Terminal()
    try:
        with Crew(settings, with_flower=not no_flower, listener=terminal.tell) as crew:
            crew.start()
            crew.wait_ready()
            if json:
                print_json(_document(crew, settings))
            terminal.introduce(crew, settings)
            crew.run()
    except StopRequestedError:
        return ExitCode.OK
    except SupervisorError as error:
        raise CliError(str(error), code=_exit_code(error)) from error
    if crew.stop_was_forced:
        raise CliError("ended at once: jobs that were running start again with the next `nightcrew up`")
    return ExitCode.OK


class _Terminal:
    """Writes what happens to standard error, in lines; a terminal that is closed ends the writing, not the crew."""

    def __init__(self) -> None:
        self._console = console(stderr=True)

    def tell(self, event: "CrewEvent") -> None:
        self._print(f"{event.name:<{_NAME_WIDTH}}{_sentence(event)}", style=_STYLES.get(event.kind, "dim"))

    def introduce(self, crew: "Crew", settings: Settings) -> None:
        for name, text in _introduction(crew, settings):
            self._print(f"{name:<{_NAME_WIDTH}}{text}", style="bold")

    def _print(self, line: str, *, style: str) -> None:
        with self._console.capture() as styled:
            self._console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)
        try:
            sys.stderr.write(styled.get())
            sys.stderr.flush()
        except OSError:
            # Nobody reads any more. Python would try again at its end, and fail then.
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())


def _sentence(event: "CrewEvent") -> str:
    again = f"starting it again in {event.pause_s:g} s" if event.pause_s else "starting it again"
    if event.kind == "died":
        return f"died after {event.took_s:.1f} s ({_ending(event.exit_code)}), {again}"
    if event.kind == "unstartable":
        return f"cannot be started ({event.reason}), {again}"
    if event.kind == "unrecorded":
        return f"cannot write run/crew.json ({event.reason}), trying again"
    took = "" if event.kind in {"started", "stopping"} else f" after {event.took_s:.1f} s"
    return f"{event.kind}{took} (pid {event.pid})"


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _introduction(crew: "Crew", settings: Settings) -> list[tuple[str, str]]:
    from nightcrew._redis import mask_url

    lines = [("Nightcrew", f"runs in {settings.data_dir}; Ctrl-C ends it"), ("broker", mask_url(crew.broker_url))]
    if flower := crew.flower:
        kept = f"in {flower.password_file}"
        # Standard error may be a log or a journal, which more people read and which keeps what it is told.
        shows = flower.is_new and sys.stderr.isatty()
        password = f"{flower.password} (shown this once, kept {kept})" if shows else kept
        lines.append(("Flower", f"{flower.url}  user {flower.user}, password {password}"))
    return [*lines, ("logs", str(settings.data_dir / "logs"))]


def _document(crew: "Crew", settings: Settings) -> dict[str, Any]:
    from nightcrew._redis import mask_url

    flower = crew.flower
    return {
        "data_dir": settings.data_dir,
        "pid": os.getpid(),
        "broker": {"url": mask_url(crew.broker_url)},
        "flower": {"url": flower.url, "user": flower.user, "password_file": flower.password_file} if flower else None,
        "children": {name: child.pid for name, child in crew.children().items()},
        "logs": settings.data_dir / "logs",
    }


def _exit_code(error: SupervisorError) -> ExitCode:
    if isinstance(error, BrokerError):
        return ExitCode.BROKER_UNREACHABLE
    return ExitCode.FAILED if isinstance(error, ChildStartError) else ExitCode.CONFIGURATION
