"""`nightcrew backup show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.backup.places import KitFile, VaultChoice, opened_vault
from workers.cli.backup.sizes import size_text
from workers.cli.context import open_crew
from workers.cli.drill_view import drill_text
from workers.cli.options import AsJson, DataDir
from workers.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from tasks.backups.operations import PointDetails

PointName = Annotated[
    str, typer.Argument(metavar="POINT", help="Beginning of an id, or latest, latest-full, latest-proven.")
]


def show(
    point: PointName,
    vault: VaultChoice = "primary",
    kit: KitFile = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Show all that is known of a restore point: what it holds, what it must be when it comes back, what it needs.

    JSON: {"point": as `backup list` gives it, "path": [ID], "manifest": as it lies in the vault, "drills": as
    `drill --list` gives them, the newest first}; with --kit nobody knows of drills
    """
    details, drills = _details(point, vault, kit, data_dir)
    if json:
        print_json(_document(details) | {"drills": drills})
    else:
        _print(details, drills)


def _details(
    wanted: str, vault: str, kit: Path | None, data_dir: Path | None
) -> "tuple[PointDetails, list[dict[str, Any]]]":
    from tasks.backups.choosing import choose_point
    from tasks.backups.operations import describe_point, list_vault, show_point
    from tasks.backups.operations.proving import drills_of_point

    if kit is None:
        with open_crew(data_dir) as crew:
            details = show_point(crew.runtime, wanted)
            return details, [drill.to_summary() for drill in drills_of_point(crew.runtime, details.point.id)]
    with opened_vault(None, kit, vault) as opened:
        return describe_point(opened, choose_point(list_vault(opened).points, wanted)), []


def _document(details: "PointDetails") -> dict[str, Any]:
    from tasks.backups.operations import point_to_json

    return {
        "point": point_to_json(details.point, details.copies),
        "path": list(details.path),
        "manifest": details.manifest.model_dump(mode="json"),
    }


def _print(details: "PointDetails", drills: list[dict[str, Any]]) -> None:
    point, manifest = details.point, details.manifest
    print_line(f"{point.id}  {point.kind} of profile {point.profile}, taken {point.taken_at:%Y-%m-%d %H:%M:%S}Z")
    print_line(f"why: {point.reason}")
    print_line(f"state: {point.state}{f', {point.state_reason}' if point.state_reason else ''}")
    proven = "never" if point.proven_at is None else f"{point.proven_at:%Y-%m-%d %H:%M}Z"
    print_line(f"proven: {proven}; needs: {' → '.join(details.path)}")
    for drill in drills:
        print_line(f"drill: {drill_text(drill)}")
    copies = [f"{copy.vault} ({'verified' if copy.verified_at else 'not verified'})" for copy in details.copies]
    print_line(f"kept in: {', '.join(copies) or 'the vault that was looked at'}")
    members = [(one.name, one.part, size_text(one.size_bytes), one.sha256[:12]) for one in manifest.members]
    print_table(("member", "part", "size", "sha256"), members)
    if manifest.database is not None:
        tables = [
            (one.name, one.rows, one.fingerprint or "", "" if one.orphans is None else one.orphans)
            for one in manifest.database.tables
        ]
        print_table(("table", "rows", "fingerprint", "orphans"), tables)
        if manifest.database.unread:
            print_line(manifest.database.unread)
