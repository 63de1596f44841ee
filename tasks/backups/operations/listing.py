"""What there is: the points that are written down, those of a vault, and all that is known of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.backups.adoption import found_in
from tasks.backups.choosing import choose_point, newest_first
from tasks.backups.operations.vaults import backup_options, vault_of
from tasks.backups.restoring import path_in
from tasks.backups.storage import KEPT, foresee, ratios
from tasks.backups.store import listing, watching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.backups.manifest import Manifest
    from tasks.backups.operations.vaults import OpenVault, VaultName
    from tasks.backups.points import RestorePoint
    from tasks.backups.storage import Check, Measure, Outlook, Ratios
    from tasks.backups.store.listing import Copy
    from tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultContents:
    """What a vault has, read from it alone."""

    points: Sequence[RestorePoint]
    """The newest first."""
    unreadable: Mapping[str, str]
    """By id of a snapshot: why it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDetails:
    """All that is known of a point."""

    point: RestorePoint
    manifest: Manifest
    path: Sequence[str]
    """Ids of what its restore needs, the full first."""
    copies: Sequence[Copy]
    """Where it is; empty without a database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStanding:
    """How a vault does."""

    vault: str
    measure: Measure | None
    """The newest; None before there is one."""
    outlook: Outlook
    ratios: Ratios | None
    check: Check | None
    """The newest; None before there is one."""


def list_points(runtime: Runtime, *, profile: str | None = None) -> list[RestorePoint]:
    """List the points that are written down, the newest first.

    Raises:
        TransientError: the database is away.
    """
    return list(listing.every(runtime.engine, profile=profile))


def list_copies(runtime: Runtime, points: Sequence[RestorePoint]) -> dict[str, list[Copy]]:
    """Say by point in which vaults it is; how many of them are verified is how independent it is.

    Raises:
        TransientError: the database is away.
    """
    return listing.copies(runtime.engine, [point.id for point in points])


def list_vault(opened: OpenVault) -> VaultContents:
    """List the points of a vault from it alone, as after the loss of the database.

    Raises:
        VaultError: it cannot be looked at.
    """
    found = found_in(opened.vault, opened.manifests)
    return VaultContents(points=newest_first(one.point for one in found.adopted), unreadable=found.unreadable)


def show_point(runtime: Runtime, wanted: str) -> PointDetails:
    """Give all that is known of a point.

    Raises:
        PointNotFoundError: no point, or more than one, is meant.
        VaultError: its manifest cannot be read from the vault.
    """
    point = choose_point(list_points(runtime), wanted)
    copies = list_copies(runtime, [point])[point.id]
    vault: VaultName = "primary" if copies[0].vault == "primary" else "second"
    return describe_point(vault_of(backup_options(runtime), vault), point, copies=copies)


def describe_point(opened: OpenVault, point: RestorePoint, *, copies: Sequence[Copy] = ()) -> PointDetails:
    """Read from a vault all that is known of one of its points.

    Raises:
        BrokenLineageError: a part of its chain is missing.
        VaultError: its manifest cannot be read.
    """
    path = path_in(opened.vault.list(), opened.manifests, point.id)
    ids = [stop.manifest.point for stop in path]
    return PointDetails(point=point, manifest=path[-1].manifest, path=ids, copies=copies)


def watch_vault(runtime: Runtime, vault: VaultName = "primary") -> VaultStanding:
    """Say how large a vault is, how it grows, and what its last check has found.

    Raises:
        TransientError: the database is away.
    """
    now = runtime.clock()
    measures = watching.measures(runtime.engine, vault, since=now - KEPT)
    newest = measures[-1] if measures else None
    return VaultStanding(
        vault=vault,
        measure=newest,
        outlook=foresee(measures, now=now),
        ratios=None if newest is None else ratios(newest),
        check=watching.last_check(runtime.engine, vault),
    )


def point_to_json(point: RestorePoint, copies: Sequence[Copy] = ()) -> dict[str, Any]:
    """Give a point as JSON, with the keys that `backup list` documents."""
    return {
        "id": point.id,
        "profile": point.profile,
        "kind": point.kind,
        "chain": point.chain,
        "sequence": point.sequence,
        "parent": point.parent_id,
        "reason": point.reason,
        "state": point.state.value,
        "state_reason": point.state_reason,
        "taken_at": point.taken_at.isoformat(),
        "size_bytes": point.size_bytes,
        "staged_bytes": point.staged_bytes,
        "added_bytes": point.added_bytes,
        "rows": point.rows,
        "is_unchanged": point.is_unchanged,
        "is_held": point.is_held,
        "proven_at": None if point.proven_at is None else point.proven_at.isoformat(),
        "predicted_rto_s": point.predicted_rto_s,
        "vaults": [copy.vault for copy in copies],
        "independent_copies": sum(copy.verified_at is not None for copy in copies),
    }
