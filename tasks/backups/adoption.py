"""Bringing the mirror in the database in line with the vault, which is the truth.

A snapshot that nobody wrote down (a worker was killed after it stored it, the database was lost, the vault is that of
another machine) is adopted if its manifest can be read and its files have their sizes. A point whose snapshot is gone
is kept in the list as damaged, and told: somebody has deleted it, or the vault has lost it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from tasks.backups.manifest import FILE_NAME, UnreadableManifestError
from tasks.backups.points import LogPosition, PointState, RestorePoint
from tasks.backups.vaults import VaultDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tasks.backups.manifest import Manifest
    from tasks.backups.staging import Progress
    from tasks.backups.vaults import Snapshot

VANISHED: Final = "its snapshot is not in the vault any more"

_log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """The vault, as adoption needs it. Every method raises the errors of `Vault`."""

    def prepare(self) -> None:
        """Make it if its place is empty, and take away locks of dead processes."""

    def list(self) -> Sequence[Snapshot]:
        """Name everything stored by a crew."""

    def sizes(self, snapshot_id: str) -> Mapping[str, int]:
        """Give the bytes of each file of a snapshot."""


class Manifests(Protocol):
    """Where manifests are read."""

    def read(self, snapshot: Snapshot) -> Manifest:
        """Give the manifest of a snapshot.

        Raises:
            UnreadableManifestError: it is none.
            VaultError: see `Vault.read`.
        """


class Mirror(Protocol):
    """The tables, as adoption needs them. Every method raises TransientError while the database is away."""

    def points(self) -> Sequence[RestorePoint]:
        """Give every point that is written down for this vault, the damaged ones included."""

    def adopt(self, found: Found) -> None:
        """Write a point down, or the new name of its snapshot."""

    def mark_damaged(self, point_id: str, reason: str) -> None:
        """Write down that a point cannot be restored."""


class Judge(Protocol):
    """Says what a point is worth beside those before it."""

    def __call__(self, point: RestorePoint, before: Sequence[RestorePoint]) -> RestorePoint:
        """Give the point with its state, and with the time that a restore is expected to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A point that the vault has, read from it alone."""

    point: RestorePoint
    manifest: Manifest
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What was done to bring the mirror in line."""

    snapshots: Sequence[Snapshot]
    """All that the vault has."""
    adopted: Sequence[Found] = ()
    vanished: Sequence[str] = ()
    """Points whose snapshots are gone."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """By id of a snapshot: why it could not be adopted."""

    def to_json(self) -> dict[str, Any]:
        """Say what was found; nothing where all was as it should be."""
        found = {
            "adopted": [one.point.id for one in self.adopted],
            "vanished": list(self.vanished),
            "unreadable": dict(self.unreadable),
        }
        return {name: value for name, value in found.items() if value}


def open_vault(shelf: Shelf, manifests: Manifests, mirror: Mirror, judge: Judge, *, progress: Progress) -> Synced:
    """Make the vault ready and the mirror true: what every job begins with. See `sync` for what it raises."""
    shelf.prepare()
    synced = sync(shelf, manifests, mirror, judge, progress=progress)
    for found in synced.adopted:
        _log.info("backups.point_adopted", point=found.point.id, snapshot=found.snapshot.id)
    for point_id in synced.vanished:
        _log.error("backups.point_vanished", point=point_id)
    for snapshot_id, reason in synced.unreadable.items():
        _log.error("backups.snapshot_unreadable", snapshot=snapshot_id, reason=reason)
    return synced


def sync(shelf: Shelf, manifests: Manifests, mirror: Mirror, judge: Judge, *, progress: Progress) -> Synced:
    """Adopt what is not written down, and mark what is gone; whoever calls it holds the lease of the vault.

    `progress` is a checkpoint before each point that is read: after the loss of the database these are all.

    Raises:
        VaultError: the vault is away or cannot be opened; nothing is concluded from that.
        TransientError: the database is away.
    """
    snapshots = shelf.list()
    known = {point.id: point for point in mirror.points()}
    listed = {snapshot.id for snapshot in snapshots}
    adopted: list[Found] = []
    unreadable: dict[str, str] = {}
    for snapshot in newest_of_each(snapshots):
        row = known.get(snapshot.tags.point)
        if row is not None and row.snapshot_id in listed and not _came_back(row):
            continue
        progress("adopt points", 0)
        found = _read(snapshot, shelf, manifests)
        if isinstance(found, str):
            unreadable[snapshot.id] = found
            continue
        judged = replace(found, point=judge(found.point, [*known.values(), *(one.point for one in adopted)]))
        mirror.adopt(judged)
        adopted.append(judged)
    vanished = _mark_vanished(known.values(), snapshots, mirror)
    return Synced(snapshots=snapshots, adopted=adopted, vanished=vanished, unreadable=unreadable)


def found_in(shelf: Shelf, manifests: Manifests) -> Synced:
    """Read all that a vault has, without any database: what `sync` would adopt if nothing were written down.

    Raises:
        VaultError: see `sync`.
    """
    snapshots = shelf.list()
    adopted: list[Found] = []
    unreadable: dict[str, str] = {}
    for snapshot in newest_of_each(snapshots):
        found = _read(snapshot, shelf, manifests)
        if isinstance(found, str):
            unreadable[snapshot.id] = found
        else:
            adopted.append(found)
    return Synced(snapshots=snapshots, adopted=adopted, unreadable=unreadable)


def newest_of_each(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Leave out all but the newest snapshot of each point.

    A worker that lost its lease while it stored a point leaves one that the worker after it has stored again: what
    counts is the later one, because the deltas that followed were made against it.
    """
    newest: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        other = newest.get(snapshot.tags.point)
        if other is None or (other.stored_at, other.id) < (snapshot.stored_at, snapshot.id):
            newest[snapshot.tags.point] = snapshot
    return sorted(newest.values(), key=lambda one: (one.stored_at, one.id))


def point_of(manifest: Manifest, snapshot: Snapshot, *, added_bytes: int | None = None) -> RestorePoint:
    """Say of a snapshot what its manifest says; what the vault grew by is what was staged, where nobody knows it."""
    staged_bytes = sum(member.size_bytes for member in manifest.members)
    database = manifest.database
    return RestorePoint(
        id=manifest.point,
        profile=manifest.profile,
        kind=manifest.kind,
        chain=manifest.chain,
        sequence=manifest.sequence,
        parent_id=manifest.parent,
        reason=manifest.reason,
        taken_at=manifest.taken_at,
        finished_at=max(snapshot.stored_at, manifest.taken_at),
        size_bytes=manifest.size_bytes,
        staged_bytes=staged_bytes,
        database_bytes=sum(member.size_bytes for member in manifest.members if member.part == "database"),
        added_bytes=staged_bytes if added_bytes is None else added_bytes,
        rows=None if database is None else sum(table.rows for table in database.tables),
        is_unchanged=manifest.is_unchanged,
        snapshot_id=snapshot.id,
        log_positions={
            one.partition: LogPosition(epoch=one.epoch, last_id=one.last_id) for one in manifest.log_positions
        },
    )


def _read(snapshot: Snapshot, shelf: Shelf, manifests: Manifests) -> Found | str:
    """Read what a snapshot is; or say why it is none of ours, or not whole."""
    try:
        manifest = manifests.read(snapshot)
        sizes = shelf.sizes(snapshot.id)
    except (UnreadableManifestError, VaultDamagedError) as error:
        return str(error)
    if manifest.point != snapshot.tags.point:
        return f"its manifest is that of {manifest.point} and its tag that of {snapshot.tags.point}"
    for member in manifest.members:
        if sizes.get(member.name) != member.size_bytes:
            return f"{member.name} has {sizes.get(member.name, 0)} bytes in it, and not {member.size_bytes}"
    if FILE_NAME not in sizes:
        return f"it has no {FILE_NAME}"
    return Found(point=point_of(manifest, snapshot), manifest=manifest, snapshot=snapshot)


def _came_back(row: RestorePoint) -> bool:
    return row.state is PointState.DAMAGED and row.state_reason == VANISHED


def _mark_vanished(known: Iterable[RestorePoint], snapshots: Sequence[Snapshot], mirror: Mirror) -> list[str]:
    there = {snapshot.tags.point for snapshot in snapshots}
    gone = [point.id for point in known if point.id not in there and point.state is not PointState.DAMAGED]
    for point_id in gone:
        mirror.mark_damaged(point_id, VANISHED)
    return gone
