"""The table of verbs, and the group that imports a verb's module only when the verb is used."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from workers.cli.output import ExitCode, cli_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    # Typer's own copy of click has no public name for these.
    from typer._click import Command, Context

VERBS: Final = {
    "up": "Run the whole crew in this terminal until Ctrl-C.",
    "demo": "Run the main job once on the sample data, and print the proof.",
    "doctor": "Check everything the crew stands on; each finding comes with its fix.",
    "status": "Show on one screen how the crew is doing.",
    "enqueue": "Put a job on its queue.",
    "jobs": "See what became of jobs, retry them, look at dead letters.",
    "usage": "Count, rank, reset and replay uses.",
    "values": "Get, set, list, import and export default values.",
    "backup": "Take, list, check and thin out restore points; make the recovery kit.",
    "restore": "Restore a point into a new directory.",
    "drill": "Prove that a point restores, and that damage would be noticed.",
    "model": "Train models, check them, and choose which one serves.",
    "predict": "Predict the value that comes next, for each row of a file.",
    "ttl": "Say what other times to live would do to a cache.",
    "schedule": "See the timetable, and run an entry now.",
    "config": "See and check the settings, make the users of the broker.",
}


class VerbGroup(TyperGroup):
    """Lists the verbs from the table, and loads one when the arguments name it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {verb: TyperCommand(name=verb, help=line) for verb, line in installed_verbs().items()}

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the verb, and put the real command in the place of the line of help."""
        verb, command, rest = super().resolve_command(ctx, args)
        return verb, command and load_verb(str(verb)), rest


def installed_verbs() -> dict[str, str]:
    """Give the verbs whose modules exist, each with its line of help."""
    return {verb: line for verb, line in VERBS.items() if find_spec(f"workers.cli.{verb}") is not None}


def load_verb(verb: str) -> Command:
    """Import the module of a verb and give its command."""
    command = get_command(importlib.import_module(f"workers.cli.{verb}").app)
    command.name = verb
    # Typer gives them to whatever it takes for the top of a command.
    command.params = [one for one in command.params if one.name not in {"install_completion", "show_completion"}]
    command.help = command.help or VERBS[verb]
    return command


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; give its exit code."""
    with cli_errors() as outcome:
        returned = get_command(root).main(args=arguments, prog_name="nightcrew", standalone_mode=False)
        # What a command returned, or what it gave to `typer.Exit`; nothing means that all went well.
        outcome.code = ExitCode.OK if returned is None else int(returned)
    return outcome.code


root = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nightcrew {version('nightcrew-workers')}")
        raise typer.Exit


@root.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Nightcrew: background work that is counted exactly and never skipped in silence.

    Every verb takes --data-dir DIR (or NIGHTCREW_DATA_DIR) and --json.

    Exit codes: 0 ok, 1 a job failed, 2 usage, 3 settings, 4 broker unreachable, 5 degraded.
    """
    del version
