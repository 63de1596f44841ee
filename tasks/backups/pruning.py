"""Deleting the restore points that the retention lets go.

The rows go first, in a transaction that needs the hold on the run, and the snapshots after them: whoever is killed in
between leaves snapshots that the next job adopts and the next pruning deletes. The other way round there would be
points in the list that nothing can restore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from tasks.backups.adoption import Manifests, Mirror, open_vault
from tasks.backups.retention import decide_retention, deletions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.adoption import Judge, Synced
    from tasks.backups.phases import Phases
    from tasks.backups.points import RestorePoint
    from tasks.backups.retention import Verdict
    from tasks.backups.vaults import Snapshot, Vault
    from tasks.runtime import RetentionOptions

PHASES: Final = {"open vault": 10.0, "delete": 90.0}

_log = structlog.get_logger(__name__)


class KeptManifests(Manifests, Protocol):
    """Where manifests are read, and kept on this machine."""

    def keep_only(self, snapshots: Collection[Snapshot]) -> None:
        """Forget the manifests of all others."""


class Book(Mirror, Protocol):
    """The tables, as a pruning needs them."""

    def delete(self, point_ids: Collection[str]) -> None:
        """Forget points of this vault, all or none.

        Raises:
            LeaseLostError: another worker may hold the run by now; nothing was deleted.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Prunes a vault."""

    vault: Vault
    manifests: KeptManifests
    book: Book
    judge: Judge
    rules: Mapping[str, RetentionOptions]
    """By profile; points of another one are kept."""
    clock: Callable[[], datetime]
    phases: Phases

    def run(self, *, dry_run: bool) -> dict[str, Any]:
        """Delete what may go, or only say what that is; give what is to be told.

        Raises:
            UnsafeRetentionError: the deletions would take what must stay; nothing was deleted.
            VaultError: the vault was in the way; what was decided is decided again by the next run.
            LeaseLostError: another worker may be at it.
        """
        with self.phases.phase("open vault"):
            synced = open_vault(self.vault, self.manifests, self.book, self.judge, progress=self.phases)
        points = self.book.points()
        stored = {snapshot.tags.point for snapshot in synced.snapshots}
        verdicts = decide_retention(points, self.rules, now=self.clock(), stored=stored)
        doomed = deletions(verdicts)
        extra = surplus(synced, points, doomed)
        refused = self.vault.place.is_append_only
        if not dry_run and not refused and (doomed or extra):
            self._delete(doomed, extra)
            self.manifests.keep_only([one for one in synced.snapshots if one.id not in extra])
        return {
            "vault": self.vault.place.name,
            "dry_run": dry_run,
            "deleted": [] if dry_run or refused else doomed,
            "kept": sum(verdict.keep for verdict in verdicts),
            "verdicts": [_said(verdict) for verdict in verdicts],
            "note": _APPEND_ONLY if refused else "",
            **synced.to_json(),
        }

    def _delete(self, doomed: Sequence[str], snapshot_ids: Sequence[str]) -> None:
        with self.phases.phase("delete"):
            self.book.delete(doomed)
            self.vault.forget(snapshot_ids, progress=self.phases)
        _log.info("backups.pruned", vault=self.vault.place.name, points=list(doomed), snapshots=len(snapshot_ids))


def surplus(synced: Synced, points: Sequence[RestorePoint], doomed: Collection[str]) -> list[str]:
    """Name the snapshots that go: those of doomed points, and second ones of points that are known by another.

    Such a second one is what a worker has stored after it lost its lease. One that no point is known of stays: it could
    not be read, and perhaps a newer release can.
    """
    known = {point.id: point.snapshot_id for point in points}
    return [
        snapshot.id
        for snapshot in synced.snapshots
        if snapshot.tags.point in doomed or known.get(snapshot.tags.point, snapshot.id) != snapshot.id
    ]


def _said(verdict: Verdict) -> dict[str, Any]:
    point = verdict.point
    return {
        "point": point.id,
        "profile": point.profile,
        "kind": point.kind,
        "taken_at": point.taken_at.isoformat(),
        "keep": verdict.keep,
        "reason": verdict.reason,
    }


_APPEND_ONLY: Final = "its keeper refuses deletions: the retention of this vault belongs to the machine that keeps it"
