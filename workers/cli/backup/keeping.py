"""`nightcrew backup hold`, `release` and `accept`: what an operator knows better than the rules."""

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.backup.showing import PointName
from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line

if TYPE_CHECKING:
    from tasks.backups.points import RestorePoint


def hold(point: PointName, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Keep a restore point whatever the retention says, and all that it needs.

    JSON: the point as `backup list` gives it
    """
    from tasks.backups.operations import hold_point

    with open_crew(data_dir) as crew:
        _show(hold_point(crew.runtime, point, is_held=True), "is kept until it is released", json=json)


def release(point: PointName, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Let the retention decide on a point again that was held.

    JSON: the point as `backup list` gives it
    """
    from tasks.backups.operations import hold_point

    with open_crew(data_dir) as crew:
        _show(hold_point(crew.runtime, point, is_held=False), "is left to the retention", json=json)


def accept(
    point: PointName,
    reason: Annotated[str, typer.Option("--reason", help="Why it is right that it is so much smaller.")],
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Say that a suspect point is right after all, so that older ones may go.

    JSON: the point as `backup list` gives it
    """
    from tasks.backups.operations import accept_point

    with open_crew(data_dir) as crew:
        try:
            accepted = accept_point(crew.runtime, point, reason=reason)
        except ValueError as error:
            raise CliError(str(error), code=ExitCode.USAGE) from error
    _show(accepted, f"is {accepted.state}", json=json)


def _show(point: "RestorePoint", what: str, *, json: bool) -> None:
    from tasks.backups.operations import point_to_json

    if json:
        print_json(point_to_json(point))
    else:
        print_line(f"{point.id} {what}")
