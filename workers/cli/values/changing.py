"""Changing values one by one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line
from workers.cli.times import parse_duration
from workers.cli.values.options import Context, Key, SeenVersion, actor

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.values.changes import Change
    from tasks.values.values import DefaultValue


def set_(  # noqa: PLR0913, PLR0917  one for each option
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='JSON, such as 5, true, "text" or {"a": 1}.')],
    context: Context = "",
    text: Annotated[bool, typer.Option("--text", help="VALUE is the text itself, and no JSON.")] = False,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag; repeatable. None given: they stay as they are.")
    ] = None,
    if_version: SeenVersion = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Make a value, or change it. Exit 1 when it is at another version than --if-version.

    JSON: as `values get` gives it
    """
    from tasks.values.changes import Change

    found = value if text else _json_of(value)
    tags = None if tag is None else tuple(tag)
    made = _change(
        Change(action="set", key=key, context=context, value=found, tags=tags, expected_version=if_version), data_dir
    )
    if json:
        print_json(made.to_json())
    else:
        print_line(f"{key} is at version {made.version}")


def delete(
    key: Key, context: Context = "", if_version: SeenVersion = None, data_dir: DataDir = None, json: AsJson = False
) -> None:
    """Delete a value; until it is purged, its versions are kept and it can be made again. Exit 1 when there is none.

    JSON: as `values get` gives it, with `deleted_at`
    """
    from tasks.values.changes import Change

    gone = _change(Change(action="delete", key=key, context=context, expected_version=if_version), data_dir)
    if json:
        print_json(gone.to_json())
    else:
        print_line(f"{key} is deleted, as version {gone.version}")


def purge(
    older_than: Annotated[str, typer.Option("--older-than", help="Deleted so long ago, such as 30d or 12h.")] = "30d",
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Remove the content of what was deleted long ago, also from the history; who did what and when stays.

    JSON: {"purged"}
    """
    from tasks.values.operations import purge_values

    with open_crew(data_dir) as crew:
        count = purge_values(crew.runtime, older_than=parse_duration(older_than), actor=actor())
    if json:
        print_json({"purged": count})
    else:
        print_line(f"{count} values purged")


def _change(change: "Change", data_dir: "Path | None") -> "DefaultValue":
    from tasks.values.changes import Refusal
    from tasks.values.operations import change_values

    with open_crew(data_dir) as crew:
        [outcome] = change_values(crew.runtime, [change], actor=actor())
    if isinstance(outcome, Refusal):
        msg = f"{change.key}: {outcome.detail}"
        raise CliError(msg, hint=f"nightcrew values history {change.key}")
    return outcome


def _json_of(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"VALUE is no JSON: {error}"
        hint = "a text needs quotes of its own, as in '\"hello\"', or --text"
        raise CliError(msg, hint=hint, code=ExitCode.USAGE) from error
