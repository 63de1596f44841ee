"""Restoring a point, with the crew's settings or with nothing but the recovery kit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.backups import restoring
from tasks.backups.choosing import choose_point
from tasks.backups.operations.listing import list_points, list_vault
from tasks.backups.operations.sources import CrewAssembler
from tasks.backups.operations.vaults import backup_options, limits_of, vault_of
from tasks.backups.phases import Phases
from tasks.backups.restoring import PARTS, Restore, RestoreOrder
from tasks.backups.staging import Limits
from tasks.backups.store.targets import RestoreTargets

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.backups.manifest import Part
    from tasks.backups.operations.vaults import OpenVault, VaultName
    from tasks.backups.phases import Teller
    from tasks.runtime import Runtime


def restore_point(
    runtime: Runtime,
    wanted: str,
    *,
    to: Path,
    only: frozenset[Part] = PARTS,
    vault: VaultName = "primary",
    teller: Teller | None = None,
) -> dict[str, Any]:
    """Restore a point of this crew into a directory that does not exist; give the report that also lies there.

    `wanted` is the beginning of an id or a nickname; `teller` hears how far it is.

    Raises:
        PointNotFoundError: no point, or more than one, is meant.
        PermanentError: it cannot be restored, or is not what was stored; nothing is left in the target.
        TransientError: the vault was in the way, or the disk is full.
    """
    options = backup_options(runtime)
    point = choose_point(list_points(runtime), wanted)
    opened = vault_of(options, vault)
    restore = Restore(
        shelf=opened.vault,
        manifests=opened.manifests,
        assembler=CrewAssembler(postgresql_tools=options.postgresql_tools, limits=limits_of(options)),
        targets=RestoreTargets(),
        clock=runtime.clock,
        phases=Phases(teller or runtime.attempt, restoring.PHASES),
    )
    return restore.run(RestoreOrder(point=point.id, to=to, only=only))


def restore_from_vault(
    opened: OpenVault,
    wanted: str,
    *,
    to: Path,
    teller: Teller,
    only: frozenset[Part] = PARTS,
    postgresql_tools: Path | None = None,
) -> dict[str, Any]:
    """Restore a point with nothing but its vault, as on a bare machine; everything else as `restore_point`."""
    point = choose_point(list_vault(opened).points, wanted)
    restore = Restore(
        shelf=opened.vault,
        manifests=opened.manifests,
        assembler=CrewAssembler(postgresql_tools=postgresql_tools, limits=Limits(nice=0, idle_io=False)),
        targets=RestoreTargets(),
        clock=lambda: datetime.now(UTC),
        phases=Phases(teller, restoring.PHASES),
    )
    return restore.run(RestoreOrder(point=point.id, to=to, only=only))
