"""Files of values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line, print_table
from workers.cli.progress_bar import teller
from workers.cli.values.options import Deleted, OfContext, OfTag, Prefix, Since, actor, instant_or_none

if TYPE_CHECKING:
    from tasks.values.changes import Action

File = Annotated[Path, typer.Argument(metavar="FILE", help="It ends in .csv or .jsonl.")]

_ACTIONS: "dict[str, Action]" = {"set": "set", "create": "create", "update": "update"}
_SHOWN = 20


def import_(
    file: File,
    mode: Annotated[
        str,
        typer.Option("--mode", help="set: make or change; create: only new ones; update: only those that are there."),
    ] = "set",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line, and change nothing.")] = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> ExitCode:
    """Take values from a file. Lines that are refused are told, and stop no other one; exit 1 when there are any.

    CSV: key,context,value,tags,version with JSON in `value`; JSON Lines: an object with the same names on each line.

    JSON: {"lines", "made", "changed", "unchanged", "refused", "errors": [{"line", "key", "detail"}],
    "errors_left_out"}
    """
    from tasks.values.operations import import_values

    if mode not in _ACTIONS:
        msg = f"--mode is {mode!r}"
        raise CliError(msg, hint=f"one of {', '.join(_ACTIONS)}", code=ExitCode.USAGE)
    lines = _lines_in(file)
    with open_crew(data_dir) as crew, teller("import", json=json) as bar:
        tally = import_values(
            crew.runtime,
            file,
            action=_ACTIONS[mode],
            actor=actor(),
            dry_run=dry_run,
            tick=lambda done: bar.report(min(1.0, done / lines), f"{done} lines"),
        )
    if json:
        print_json(tally.to_json())
    else:
        tried = " (nothing was changed: --dry-run)" if dry_run else ""
        print_line(
            f"{tally.lines} lines: {tally.made} made, {tally.changed} changed, {tally.unchanged} as they were, "
            f"{tally.refused} refused{tried}"
        )
        if tally.told:
            print_table(("line", "key", "why"), [(one.number, one.key, one.detail) for one in tally.told[:_SHOWN]])
        if tally.refused > _SHOWN:
            print_line(f"and {tally.refused - _SHOWN} more: --json has them")
    return ExitCode.FAILED if tally.refused else ExitCode.OK


def export(  # noqa: PLR0913, PLR0917  one for each option
    file: File,
    prefix: Prefix = "",
    context: OfContext = None,
    tag: OfTag = None,
    since: Since = None,
    with_deleted: Deleted = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Write values to a file, all as of one moment; importing it gives the same values.

    JSON: {"file", "values"}
    """
    from tasks.values.listing import Listing
    from tasks.values.operations import export_values

    listing = Listing(
        prefix=prefix,
        context=context,
        tag=tag,
        updated_since=instant_or_none(since),
        deleted="with" if with_deleted else "without",
    )
    with open_crew(data_dir) as crew, teller("export", json=json) as bar:
        count = export_values(
            crew.runtime, file, listing, tick=lambda done, of: bar.report(done / max(done, of), f"{done} of {of}")
        )
    if json:
        print_json({"file": str(file), "values": count})
    else:
        print_line(f"{file}: {count} values")


def _lines_in(file: Path) -> int:
    """Count the lines, for the bar alone."""
    try:
        with file.open("rb") as content:
            return max(1, sum(chunk.count(b"\n") for chunk in iter(lambda: content.read(1 << 20), b"")))
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise CliError(msg, code=ExitCode.USAGE) from error
