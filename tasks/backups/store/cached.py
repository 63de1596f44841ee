"""What is kept on this machine of points in the vault, because it is needed again: never anything that is not there.

<backups>/manifests/<point>.<snapshot>.json     a manifest never changes, and each sync would ask for all of them
<backups>/pages/<point>/…                       members that the next delta is made against
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from tasks.backups.manifest import FILE_NAME, Manifest, UnreadableManifestError
from tasks.backups.store.hashing import DamagedMemberError, check_member
from tasks.backups.store.stages import make_private

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from tasks.backups.backup import Found
    from tasks.backups.manifest import Member
    from tasks.backups.points import RestorePoint
    from tasks.backups.staging import Stage
    from tasks.backups.vaults import Snapshot, Vault

_NAME_CHARACTERS: Final = 16
_COMPARING: Final = "compare hashes"


class ManifestCache:
    """Manifests by snapshot."""

    def __init__(self, directory: Path, vault: Vault) -> None:
        """Ask this vault for what is not in the directory."""
        self._directory = directory
        self._vault = vault

    def read(self, snapshot: Snapshot) -> Manifest:
        """Give the manifest of a snapshot.

        Raises:
            UnreadableManifestError: it is none, or of a newer release.
            VaultError: see `Vault.read`.
        """
        path = self._directory / _file_name(snapshot)
        with suppress(FileNotFoundError, UnreadableManifestError):
            return Manifest.from_json(path.read_bytes())
        text = self._vault.read(snapshot.id, FILE_NAME)
        manifest = Manifest.from_json(text)
        make_private(self._directory)
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        draft.write_bytes(text)
        draft.replace(path)
        return manifest

    def keep_only(self, snapshots: Collection[Snapshot]) -> None:
        """Forget the manifests of all others."""
        kept = {_file_name(snapshot) for snapshot in snapshots}
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            if path.name not in kept:
                path.unlink(missing_ok=True)


class MemberCache:
    """Members of points that deltas are made against."""

    def __init__(self, directory: Path, vault: Vault, kept: Callable[[Manifest], Collection[str]]) -> None:
        """Keep those members that `kept` names of a manifest, and ask the vault for what is not there."""
        self._directory = directory
        self._vault = vault
        self._kept = kept

    def fetcher(self, parent: Found, stage: Stage) -> Callable[[str], Path]:
        """Say how a member of a point is fetched by its name; what came from the vault goes with the stage."""

        def fetch(name: str) -> Path:
            member = _member(parent.manifest, name)
            path = self._directory / parent.manifest.point / name
            if _is_whole(path, member, stage):
                return path
            into = stage.directory.with_name(f"{stage.directory.name}.{_digest(name)}")
            self._vault.get(parent.snapshot_id, [name], into, progress=stage.progress)
            check_member(into / name, member, tick=partial(stage.progress, _COMPARING))
            make_private(self._directory)
            _move(into / name, path)
            shutil.rmtree(into)
            return path

        return fetch

    def keep(self, manifest: Manifest, stage: Path, points: Sequence[RestorePoint]) -> None:
        """Take over what the children of a new point need, and forget that of points that will have none."""
        make_private(self._directory)
        for name in self._kept(manifest):
            _move(stage / name, self._directory / manifest.point / name)
        needed = {manifest.point, manifest.chain, *_likely_parents(points, but=manifest.profile)}
        for path in self._directory.iterdir():
            if path.name not in needed:
                shutil.rmtree(path)


def _likely_parents(points: Sequence[RestorePoint], *, but: str) -> set[str]:
    """Name the newest point of each other profile, and the full of its chain."""
    newest: dict[str, RestorePoint] = {}
    for point in points:
        if point.profile != but and (point.profile not in newest or newest[point.profile].taken_at < point.taken_at):
            newest[point.profile] = point
    return {name for point in newest.values() for name in (point.id, point.chain)}


def _member(manifest: Manifest, name: str) -> Member:
    try:
        return manifest.member(name)
    except KeyError:
        msg = f"the point {manifest.point} has no {name}"
        raise DamagedMemberError(msg) from None


def _is_whole(path: Path, member: Member, stage: Stage) -> bool:
    try:
        check_member(path, member, tick=partial(stage.progress, _COMPARING))
    except DamagedMemberError:
        return False
    return True


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _file_name(snapshot: Snapshot) -> str:
    return f"{snapshot.tags.point}.{snapshot.id[:_NAME_CHARACTERS]}.json"


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError:
        draft = target.with_name(f".{target.name}.{os.getpid()}")  # another disk
        shutil.copyfile(source, draft)
        draft.replace(target)
