"""The backups slice at the edge of Celery.

Whatever writes to a vault has the only use of it: two backups, or a backup and a pruning, never overlap. A drill only
reads, which the engine lets others do at the same time: it keeps nobody from the vault, but other drills from the disk.
Each job first removes what a killed drill has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nightcrew.messages import (
    CopyToSecondVault,
    DrillRestore,
    PruneVault,
    RunFullBackup,
    RunIncrementalBackup,
    VerifyVault,
)
from tasks.backups.operations import copy_points, drill_job, prune_vaults, sweep_drills, take_backup, verify_vaults
from tasks.job import job
from tasks.ledger.retries import PATIENT
from tasks.runtime import Runtime  # noqa: TC001  the jobs of all slices are read by their signatures

if TYPE_CHECKING:
    from nightcrew.messages.backups import DeltaBase
    from tasks.backups.points import Kind

PRIMARY: Final = frozenset({"backups:vault:primary"})
BOTH: Final = PRIMARY | {"backups:vault:second"}
DRILL: Final = frozenset({"backups:drill"})

_KINDS: Final[dict[DeltaBase, Kind]] = {"previous": "incremental", "full": "differential"}


@job(RunFullBackup, retry=PATIENT, exclusive=lambda _: PRIMARY)
def run_full_backup(message: RunFullBackup, runtime: Runtime) -> dict[str, Any]:
    """Take a restore point that needs no other one."""
    sweep_drills(runtime)
    return take_backup(runtime, profile=message.profile, kind="full")


@job(RunIncrementalBackup, retry=PATIENT, exclusive=lambda _: PRIMARY)
def run_incremental_backup(message: RunIncrementalBackup, runtime: Runtime) -> dict[str, Any]:
    """Take a restore point that holds what has changed, or all of it where that is not safe."""
    sweep_drills(runtime)
    return take_backup(runtime, profile=message.profile, kind=_KINDS[message.base])


@job(VerifyVault, retry=PATIENT, exclusive=lambda _: BOTH)
def verify_vault(message: VerifyVault, runtime: Runtime) -> dict[str, Any]:
    """Check the vaults, and read a slice of what they store."""
    sweep_drills(runtime)
    return verify_vaults(runtime, slices=message.slices)


@job(PruneVault, retry=PATIENT, exclusive=lambda _: BOTH)
def prune_vault(message: PruneVault, runtime: Runtime) -> dict[str, Any]:
    """Delete the restore points that the retention lets go."""
    sweep_drills(runtime)
    return prune_vaults(runtime, dry_run=message.dry_run)


@job(CopyToSecondVault, retry=PATIENT, exclusive=lambda _: BOTH)
def copy_to_second_vault(_message: CopyToSecondVault, runtime: Runtime) -> dict[str, Any]:
    """Copy what the second vault does not have yet, and check it there."""
    sweep_drills(runtime)
    return copy_points(runtime)


@job(DrillRestore, retry=PATIENT, exclusive=lambda _: DRILL)
def drill_restore(message: DrillRestore, runtime: Runtime) -> dict[str, Any]:
    """Restore a point into a sandbox, compare it with what it was, and see that damage would have been noticed."""
    sweep_drills(runtime)
    return drill_job(runtime, message)
