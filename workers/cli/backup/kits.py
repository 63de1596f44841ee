"""`nightcrew backup kit`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.context import open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line

if TYPE_CHECKING:
    from tasks.backups.kit import Kit


def kit(
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write it into a new file of mode 600 instead.")
    ] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Give the recovery kit: what a bare machine needs beside the vault and this project. It is SECRET.

    It holds the passwords of the vaults. Keep it on paper or in a safe for passwords, never beside a vault.

    JSON: {"read_me", "nightcrew_kit", "made_at", "crew", "vaults": [{"name", "location", "password", …}], "profiles",
    "database", "tools"}; with --to {"file"}
    """
    from tasks.backups.operations import make_kit

    with open_crew(data_dir) as crew:
        made = make_kit(crew.runtime)
    if to is not None:
        _write(made, to)
        if json:
            print_json({"file": str(to)})
        else:
            print_line(f"{to} holds the passwords of the vaults: put it where no fire and no thief finds both")
    elif json:
        print_json(made.model_dump(mode="json"))
    else:
        typer.echo(made.to_json(), nl=False)


def _write(made: "Kit", to: Path) -> None:
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        msg = f"{to} is there already"
        raise CliError(msg, hint="name a new file", code=ExitCode.USAGE) from error
    except OSError as error:
        msg = f"{to} cannot be written: {error.strerror}"
        raise CliError(msg, code=ExitCode.USAGE) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made.to_json())
