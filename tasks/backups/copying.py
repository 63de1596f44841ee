"""Copying to the second vault what it does not have and would keep, parents first.

Only this makes a point independent of the first vault, where all points share what they store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from tasks.backups.adoption import Mirror, open_vault
from tasks.backups.choosing import restorable
from tasks.backups.manifest import FILE_NAME
from tasks.backups.retention import decide_retention
from tasks.backups.vaults import VaultDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.adoption import Judge, Manifests, Synced
    from tasks.backups.phases import Phases
    from tasks.backups.points import RestorePoint
    from tasks.backups.vaults import Snapshot, Vault
    from tasks.runtime import RetentionOptions

PHASES: Final = {"open vaults": 10.0, "copy": 80.0, "check copies": 10.0}

_log = structlog.get_logger(__name__)


class Book(Mirror, Protocol):
    """The tables, as a copy needs them: the points of the vault that is copied to."""

    def note_copy(self, point_id: str, snapshot_id: str) -> None:
        """Write down that the vault has a point, with every file at its size.

        Raises:
            LeaseLostError: another worker may hold the run by now; nothing was written.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two vaults."""

    vault: Vault
    manifests: Manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copies from the first vault to the second."""

    first: Side
    first_book: Mirror
    second: Side
    second_book: Book
    judge: Judge
    rules: Mapping[str, RetentionOptions]
    """Of the second vault, by profile."""
    clock: Callable[[], datetime]
    phases: Phases

    def run(self) -> dict[str, Any]:
        """Copy what the second vault lacks; give what is to be told.

        Raises:
            VaultDamagedError: a copy is not what it was copied from.
            VaultError: one of the vaults was in the way; the next run goes on behind what is there.
        """
        with self.phases.phase("open vaults"):
            source = self._open(self.first, self.first_book)
            target = self._open(self.second, self.second_book)
        points = self.first_book.points()
        there = {snapshot.tags.point for snapshot in target.snapshots}
        wanted = wanted_copies(points, self.second_book.points(), self.rules, now=self.clock())
        stored = {snapshot.id: snapshot for snapshot in source.snapshots}
        missing = [point for point in wanted if point.id not in there and point.snapshot_id in stored]
        copied = [self._copy(point, stored[point.snapshot_id]) for point in missing]
        return {
            "vault": self.second.vault.place.name,
            "copied": copied,
            "there_already": len(there),
            "seconds": dict(self.phases.seconds),
            **target.to_json(),
        }

    def _open(self, side: Side, book: Mirror) -> Synced:
        return open_vault(side.vault, side.manifests, book, self.judge, progress=self.phases)

    def _copy(self, point: RestorePoint, original: Snapshot) -> str:
        """Copy one point: what is through is written down, whatever happens to the next."""
        with self.phases.phase("copy"):
            names = self.first.vault.copy_to(self.second.vault.place, [original.id], progress=self.phases)
        with self.phases.phase("check copies"):
            self._check(point, original, names[original.id])
            self.second_book.note_copy(point.id, names[original.id])
        _log.info("backups.copied", point=point.id, vault=self.second.vault.place.name)
        return point.id

    def _check(self, point: RestorePoint, original: Snapshot, copy_id: str) -> None:
        there, manifest = self.second.vault.sizes(copy_id), self.first.manifests.read(original)
        wanted = {FILE_NAME: there.get(FILE_NAME), **{one.name: one.size_bytes for one in manifest.members}}
        if there != wanted:
            msg = f"the copy of {point.id} in the vault {self.second.vault.place.name} is not what was copied"
            raise VaultDamagedError(msg)


def wanted_copies(
    here: Sequence[RestorePoint],
    there: Sequence[RestorePoint],
    rules: Mapping[str, RetentionOptions],
    *,
    now: datetime,
) -> list[RestorePoint]:
    """Choose the points that the second vault would keep if it had all of them, parents before what rests on them.

    What it would delete with the next pruning is not copied, or each copy would bring it back.
    """
    known = {point.id: point for point in [*here, *there]}
    kept = {verdict.point.id for verdict in decide_retention(list(known.values()), rules, now=now) if verdict.keep}
    whole = [point for point in restorable(here) if point.id in kept]
    return sorted(whole, key=lambda point: (point.sequence, point.taken_at, point.id))
