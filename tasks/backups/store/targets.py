"""Directories that restores are put together in, beside the one that they become.

<to>.partial-<random>/           renamed to <to> once every hash was equal; what was killed, the next one removes
<to>.partial-<random>/.fetched/  what the vault gave; gone before the rename
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.manifest import FILE_NAME
from tasks.backups.store.hashing import check_member
from tasks.backups.store.sandboxes import sandbox
from tasks.backups.store.stages import check_room, disk_errors
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tasks.backups.manifest import Manifest, Member

REPORT_NAME: Final = "restore.json"

_OTHERS: Final = 0o077
_PASSABLE: Final = 0o011


class TargetExistsError(PermanentError):
    """There is something at the place that a restore shall make."""


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """One directory in the making."""

    to: Path
    partial: Path

    @property
    def fetched(self) -> Path:
        """Where its parts lie meanwhile."""
        return self.partial / ".fetched"

    def check(self, directory: Path, member: Member, tick: Callable[[int], None]) -> None:
        """Compare the hash of a fetched member."""
        check_member(directory / member.name, member, tick=tick)

    def place(self, source: Path, name: str, *, mode: int) -> None:
        """Move a fetched file to its place."""
        path = self.partial / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.rename(path)
        path.chmod(mode)

    def publish(self, report: Mapping[str, Any], manifest: Manifest) -> None:
        """Write everything to the disk, and let it be there."""
        shutil.rmtree(self.fetched, ignore_errors=True)
        (self.partial / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (self.partial / FILE_NAME).write_bytes(manifest.to_json())
        for path in sorted(self.partial.rglob("*")):
            _sync(path)
        _check_absent(self.to)
        self.partial.rename(self.to)
        _sync(self.to.parent)


class RestoreTargets:
    """Makes them on the disk where they are asked for."""

    @contextmanager
    def opened(self, to: Path, *, needed_bytes: int) -> Iterator[RestoreTarget]:
        """Begin one; what was not published by the end of the block is removed."""
        _check_absent(to)
        with disk_errors(to.parent):
            to.parent.mkdir(parents=True, exist_ok=True)
            check_room(to.parent, needed_bytes)
            with sandbox(to.parent, f"{to.name}.partial-") as partial:
                target = RestoreTarget(to, partial)
                target.fetched.mkdir(mode=0o700)
                yield target


@contextmanager
def enterable(*directories: Path) -> Iterator[None]:
    """Let other accounts pass through private directories during the block, if we are root.

    A server that refuses to run as root then reaches what we restore for it; nobody can list what lies there. After the
    block each directory is as open as it was before.
    """
    if os.geteuid() != 0:
        yield
        return
    modes = {directory: stat.S_IMODE(directory.stat().st_mode) for directory in directories}
    try:
        for directory, mode in modes.items():
            directory.chmod(mode | _PASSABLE)
        yield
    finally:
        for directory, mode in modes.items():
            directory.chmod(mode)


def close_again(directory: Path) -> None:
    """Close a directory that whoever was killed in `enterable` has left passable; any other stays as it is."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & _OTHERS == _PASSABLE:
        directory.chmod(mode & ~_PASSABLE)


def _check_absent(to: Path) -> None:
    if to.exists() or to.is_symlink():
        msg = f"{to} is there already: a restore makes a new directory, name one that does not exist"
        raise TargetExistsError(msg)


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
