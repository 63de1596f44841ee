"""`nightcrew restore`: a restore point back to files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from workers.cli.backup.places import KitFile, VaultChoice, opened_vault
from workers.cli.backup.showing import PointName
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, print_json, print_line
from workers.cli.progress_bar import teller

if TYPE_CHECKING:
    from tasks.backups.manifest import Part

app = typer.Typer()


@app.command()
def restore(
    point: PointName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A directory that does not exist yet.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PART", help="database, redis, config or model; repeatable.")
    ] = None,
    vault: VaultChoice = "primary",
    kit: KitFile = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Restore a point into a new directory; it appears there whole, after every hash is equal, or not at all.

    Nothing that runs is touched. The broker's data go to `quarantine/`: a broker that starts on them delivers old
    messages again. It needs the vault and its password, and no running crew.

    JSON: {"point", "profile", "kind", "taken_at", "path", "to", "restored", "is_equal", "seconds"}
    """
    from tasks.backups.operations import restore_from_vault

    parts = _parts(only or [])
    target = to.absolute()
    with opened_vault(data_dir, kit, vault) as opened, teller("restore", json=json) as told:
        report = restore_from_vault(opened, point, to=target, teller=told, only=parts)
    if json:
        print_json(report)
    else:
        _print(report)


def _parts(names: list[str]) -> "frozenset[Part]":
    from tasks.backups.manifest import Part
    from tasks.backups.restoring import PARTS

    if unknown := [name for name in names if name not in PARTS]:
        msg = f"no part {unknown[0]!r}"
        raise CliError(msg, hint=f"one of {', '.join(get_args(Part))}", code=ExitCode.USAGE)
    return frozenset(part for part in PARTS if part in names) if names else PARTS


def _flat(what: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in what.items()) if isinstance(what, dict) else str(what)


def _print(report: Mapping[str, Any]) -> None:
    seconds = report["seconds"]
    print_line(f"{report['to']}: point {report['point']}, as of {report['taken_at']}, every hash equal")
    for part, what in report["restored"].items():
        for one in what if isinstance(what, list) else [what]:
            print_line(f"{part}: {_flat(one)}")
    print_line(f"took {seconds['total']:.1f} s; restore.json beside it has the details")
