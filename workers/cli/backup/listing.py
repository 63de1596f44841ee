"""`nightcrew backup list`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.backup.places import KitFile, VaultChoice, opened_vault
from workers.cli.backup.sizes import size_text
from workers.cli.context import CrewContext, open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import print_error, print_json, print_line, print_table

if TYPE_CHECKING:
    from tasks.backups.operations.listing import VaultStanding
    from tasks.backups.operations.vaults import VaultName
    from tasks.backups.points import RestorePoint

_SECOND: "VaultName" = "second"


def list_points(
    profile: Annotated[str | None, typer.Option("--profile", help="Only the points of this profile.")] = None,
    from_vault: Annotated[
        bool, typer.Option("--from-vault", help="Read the vault itself, as after the loss of the database.")
    ] = False,
    vault: VaultChoice = "primary",
    kit: KitFile = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """List the restore points, newest first, and how the vaults are doing.

    JSON: {"points": [{"id", "profile", "kind", "chain", "sequence", "parent", "reason", "state", "state_reason",
    "taken_at", "size_bytes", "staged_bytes", "added_bytes", "rows", "is_unchanged", "is_held", "proven_at",
    "predicted_rto_s", "vaults", "independent_copies"}], "vaults": [{"vault", "points", "stored_bytes", "free_bytes",
    "growth_bytes_per_day", "days_until_full", "outlook", "compression", "dedup", "checked_at", "is_sound"}],
    "unreadable": {SNAPSHOT: REASON}, "proven", "could_restore_to", "last_drill", "predicted_rto": as `status` gives
    them}; with --from-vault or --kit the second is empty and the last four are not there, else the third is empty
    """
    if from_vault or kit is not None:
        document = _of_vault(data_dir, kit, vault, profile)
    else:
        with open_crew(data_dir) as crew:
            document = _of_crew(crew, profile)
    if json:
        print_json(document)
    else:
        _print(document)


def _of_crew(crew: CrewContext, profile: str | None) -> dict[str, Any]:
    from tasks.backups.operations import list_copies, list_points, point_to_json, watch_vault
    from tasks.backups.operations.proving import look_at_proofs

    points = list_points(crew.runtime, profile=profile)
    copies = list_copies(crew.runtime, points)
    names: list[VaultName] = ["primary", *([_SECOND] if crew.settings.backups.second_vault else [])]
    return {
        "points": [point_to_json(point, copies.get(point.id, ())) for point in points],
        "vaults": [_standing(watch_vault(crew.runtime, name)) for name in names],
        "unreadable": {},
        **look_at_proofs(crew.runtime).to_json(),
    }


def _of_vault(data_dir: Path | None, kit: Path | None, vault: str, profile: str | None) -> dict[str, Any]:
    from tasks.backups.operations import list_vault, point_to_json

    with opened_vault(data_dir, kit, vault) as opened:
        contents = list_vault(opened)
    points: Sequence[RestorePoint] = [one for one in contents.points if profile in {None, one.profile}]
    return {
        "points": [point_to_json(point) | {"vaults": [vault]} for point in points],
        "vaults": [],
        "unreadable": dict(contents.unreadable),
    }


def _standing(standing: "VaultStanding") -> dict[str, Any]:
    measure, ratios, check = standing.measure, standing.ratios, standing.check
    return {
        "vault": standing.vault,
        "points": measure and measure.points,
        "stored_bytes": measure and measure.stored_bytes,
        "free_bytes": measure and measure.free_bytes,
        "growth_bytes_per_day": standing.outlook.growth_bytes_per_day,
        "days_until_full": standing.outlook.days_until_full,
        "outlook": standing.outlook.reason,
        "compression": ratios and ratios.compression,
        "dedup": ratios and ratios.dedup,
        "checked_at": check and check.checked_at,
        "is_sound": check and check.is_sound,
    }


def _print(document: Mapping[str, Any]) -> None:
    rows = [_row(point) for point in document["points"]]
    print_table(("point", "taken (UTC)", "kind", "chain", "size", "added", "state", "proven", "copies"), rows)
    if rows and (proofs := document.get("proven")):
        print_line(f"proven: {proofs['says']}")
    if not rows:
        print_line("no restore point yet; take one with: nightcrew backup full")
    for vault in document["vaults"]:
        print_line(_vault_line(vault))
    for snapshot, reason in document["unreadable"].items():
        print_error(f"snapshot {snapshot} cannot be read: {reason}")


def _row(point: Mapping[str, Any]) -> tuple[object, ...]:
    taken, proven = str(point["taken_at"])[:16].replace("T", " "), str(point["proven_at"] or "never")[:10]
    place = f"{str(point['chain'])[:6]}+{point['sequence']}"
    notes = [point["state"], *(["held"] if point["is_held"] else []), *(["no change"] if point["is_unchanged"] else [])]
    sizes = size_text(point["size_bytes"]), size_text(point["added_bytes"])
    return (point["id"], taken, point["kind"], place, *sizes, ", ".join(notes), proven, "+".join(point["vaults"]))


def _vault_line(vault: Mapping[str, Any]) -> str:
    if vault["stored_bytes"] is None:
        return f"{vault['vault']} vault: not measured yet"
    parts = [f"{vault['vault']} vault: {size_text(vault['stored_bytes'])}"]
    if vault["free_bytes"] is not None:
        parts.append(f"{size_text(vault['free_bytes'])} free")
    if vault["growth_bytes_per_day"] is not None:
        parts.append(f"grows by {size_text(round(vault['growth_bytes_per_day']))} a day")
    if vault["days_until_full"] is not None:
        parts.append(f"full in {vault['days_until_full']:.0f} days")
    saved = [f"{name} {vault[name]:.1f}x" for name in ("compression", "dedup") if vault[name] is not None]
    checked = "not checked yet" if vault["checked_at"] is None else f"checked {vault['checked_at']:%Y-%m-%d %H:%M}Z"
    sound = "" if vault["is_sound"] in {None, True} else ": DAMAGED"
    return ", ".join([*parts, *saved, f"{checked}{sound}"])
