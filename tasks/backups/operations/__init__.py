"""What jobs and operators do with restore points, each in one call: here the real vaults, sources and tables meet.

Reading order: `vaults.py` (opening them), `sources.py` (what is captured and how it comes back), `taking.py`,
`restoring.py`, `listing.py`, `keeping.py` (verify, prune, copy, hold), `kits.py`, `examiners.py`, `drilling.py`.
"""

from tasks.backups.operations.drilling import drill_job, drill_point, list_drills, sweep_drills
from tasks.backups.operations.keeping import accept_point, copy_points, hold_point, prune_vaults, verify_vaults
from tasks.backups.operations.kits import make_kit
from tasks.backups.operations.listing import (
    PointDetails,
    VaultContents,
    VaultStanding,
    describe_point,
    list_copies,
    list_points,
    list_vault,
    point_to_json,
    show_point,
    watch_vault,
)
from tasks.backups.operations.restoring import restore_from_vault, restore_point
from tasks.backups.operations.taking import take_backup
from tasks.backups.operations.vaults import OpenVault, backup_options, vault_from_kit, vault_of

__all__ = [
    "OpenVault",
    "PointDetails",
    "VaultContents",
    "VaultStanding",
    "accept_point",
    "backup_options",
    "copy_points",
    "describe_point",
    "drill_job",
    "drill_point",
    "hold_point",
    "list_copies",
    "list_drills",
    "list_points",
    "list_vault",
    "make_kit",
    "point_to_json",
    "prune_vaults",
    "restore_from_vault",
    "restore_point",
    "show_point",
    "sweep_drills",
    "take_backup",
    "vault_from_kit",
    "vault_of",
    "verify_vaults",
    "watch_vault",
]
