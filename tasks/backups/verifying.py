"""Checking a vault: its structure each time, and a slice of what it stores in turn, so that all is read in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import structlog

from tasks.backups.adoption import Mirror, open_vault
from tasks.backups.manifest import UnreadableManifestError
from tasks.backups.points import PointState
from tasks.backups.storage import Check, next_slice
from tasks.backups.vaults import VaultDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.adoption import Judge, Manifests, Synced
    from tasks.backups.phases import Phases
    from tasks.backups.points import RestorePoint
    from tasks.backups.vaults import Vault

PHASES: Final = {"open vault": 5.0, "check vault": 95.0}

_log = structlog.get_logger(__name__)


class Book(Mirror, Protocol):
    """The tables, as a check needs them."""

    def checks(self) -> Sequence[Check]:
        """Give what earlier checks of the vault have found."""

    def note_check(self, check: Check) -> None:
        """Write down what a check has found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Checks a vault."""

    vault: Vault
    manifests: Manifests
    book: Book
    judge: Judge
    clock: Callable[[], datetime]
    phases: Phases
    elsewhere: Callable[[], Mapping[str, str]] = dict
    """By point the name of another vault that has it too."""

    def run(self, slices: int) -> dict[str, Any]:
        """Check it and read the next of so many slices (0: none); give what is to be told.

        Raises:
            VaultDamagedError: what is stored cannot be read back; the points that are hit are marked as far as they
                can be named.
            VaultError: it could not be looked at, which says nothing about what it stores.
        """
        with self.phases.phase("open vault"):
            synced = open_vault(self.vault, self.manifests, self.book, self.judge, progress=self.phases)
        chosen = next_slice(self.book.checks(), slices)
        read = None if chosen is None else (chosen.number, chosen.of)
        try:
            with self.phases.phase("check vault"):
                self.vault.check(read=read, progress=self.phases)
        except VaultDamagedError as error:
            self._condemn(synced, read, error)
        self.book.note_check(self._check(read, ""))
        return {
            "vault": self.vault.place.name,
            "snapshots": len(synced.snapshots),
            "slice": None if chosen is None else chosen.number,
            "slices": slices,
            "reason": "only the structure" if chosen is None else chosen.reason,
            "is_sound": True,
            "seconds": dict(self.phases.seconds),
            **synced.to_json(),
        }

    def _condemn(self, synced: Synced, read: tuple[int, int] | None, error: VaultDamagedError) -> NoReturn:
        """Mark what can be named, write down the finding, and fail with it."""
        hit = self.vault.users_of(error.pieces, progress=self.phases)
        damaged = [
            point
            for point in self.book.points()
            if point.snapshot_id in hit or not self._is_readable(point, str(error), synced)
        ]
        for point in damaged:
            if point.state is not PointState.DAMAGED:
                self.book.mark_damaged(point.id, str(error))
        self.book.note_check(self._check(read, str(error)))
        _log.error("backups.vault_damaged", vault=self.vault.place.name, points=[one.id for one in damaged])
        msg = f"the vault {self.vault.place.name} is damaged: {error}. {self._advice(damaged)}"
        raise VaultDamagedError(msg) from error

    def _check(self, read: tuple[int, int] | None, fault: str) -> Check:
        number, of = read or (None, None)
        return Check(checked_at=self.clock(), slice=number, slices=of, is_sound=not fault, detail=fault)

    def _is_readable(self, point: RestorePoint, text: str, synced: Synced) -> bool:
        """Say whether the directory of a point can be read; its content is proven by a restore alone."""
        if point.snapshot_id not in {snapshot.id for snapshot in synced.snapshots}:
            return False
        try:
            self.vault.sizes(point.snapshot_id)
        except (VaultDamagedError, UnreadableManifestError):
            return False
        return point.snapshot_id not in text

    def _advice(self, damaged: Sequence[RestorePoint]) -> str:
        others = self.elsewhere()
        named = [f"{one.id} (also in the vault {others[one.id]})" if one.id in others else one.id for one in damaged]
        hit = f"Hit are at least {', '.join(named)}. " if named else ""
        return f"{hit}Take a full backup to a new vault; a restore tells of each other point whether it is hit"
