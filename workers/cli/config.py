"""`nightcrew config`: see and check the settings."""

from typing import Annotated

import typer

from workers.cli.options import AsJson, DataDir
from workers.cli.output import ExitCode, print_error, print_json, print_line, print_table
from workers.settings import SettingsError, explain, load_settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(
    data_dir: DataDir = None,
    json: AsJson = False,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Print every setting, passwords masked.

    JSON: {"settings": {NAME: {"value", "origin"}}}
    """
    settings = explain(load_settings(data_dir))
    if json:
        print_json({"settings": {one.name: {"value": one.value, "origin": one.origin} for one in settings}})
    elif origin:
        print_table(("setting", "value", "origin"), [(one.name, one.value, one.origin) for one in settings])
    else:
        print_table(("setting", "value"), [(one.name, one.value) for one in settings])


@app.command()
def validate(data_dir: DataDir = None, json: AsJson = False) -> ExitCode:
    """Check the settings and list every problem; exit 3 if there is one.

    JSON: {"valid", "problems": [TEXT]}
    """
    try:
        settings = load_settings(data_dir)
    except SettingsError as error:
        if json:
            print_json({"valid": False, "problems": error.problems})
        else:
            print_error(str(error))
        return ExitCode.CONFIGURATION
    if json:
        print_json({"valid": True, "problems": []})
    else:
        print_line(f"settings of {settings.data_dir}: ok")
    return ExitCode.OK
