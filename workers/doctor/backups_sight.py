"""Looks at what the tables say of backups."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tasks.backups.choosing import restorable
from tasks.backups.operations import list_points, watch_vault
from tasks.backups.operations.proving import look_at_proofs
from tasks.backups.operations.vaults import VAULT_NAMES
from tasks.backups.points import PointState
from workers.doctor.backups import BackupFacts

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def see_backups(runtime: Runtime) -> BackupFacts:
    """Look at points and vaults; no vault is asked.

    Raises:
        TransientError: the database went away.
    """
    points = list_points(runtime)
    whole = restorable(points)
    checks = {name: watch_vault(runtime, name).check for name in VAULT_NAMES}
    return BackupFacts(
        points=len(points),
        newest_at=max((point.taken_at for point in whole), default=None),
        newest_proven_at=max((point.taken_at for point in whole if point.proven_at is not None), default=None),
        damaged={point.id: point.state_reason for point in points if point.state is PointState.DAMAGED},
        suspect={point.id: point.state_reason for point in points if point.state is PointState.SUSPECT},
        proofs=look_at_proofs(runtime, points=points),
        unsound={name: check.detail for name, check in checks.items() if check is not None and not check.is_sound},
    )


def see_engine(program: str) -> str | None:
    """Find the program that keeps the vaults."""
    return shutil.which(program)
