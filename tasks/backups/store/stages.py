"""Directories that backups are put together in: private, one for each attempt, gone when it ends.

<backups>/staging/<run id>.<fence>/     members and the manifest, as the vault will get them
"""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog

from tasks.backups.eta import bytes_text
from tasks.backups.manifest import FILE_NAME
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.backups.manifest import Manifest

_PRIVATE: Final = 0o700
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_log = structlog.get_logger(__name__)


class StageDirectories:
    """The stages below one directory, of which only one is in use at a time: the caller has the lease of the vault."""

    def __init__(self, directory: Path) -> None:
        """Keep them below this directory, which is made when the first one is opened."""
        self._directory = directory

    def clear(self) -> None:
        """Remove what is there: it belongs to attempts that died, or that lost their lease.

        Raises:
            PermanentError: the directory cannot be written.
        """
        with disk_errors(self._directory):
            make_private(self._directory)
            for path in sorted(self._directory.iterdir()):
                _remove(path)
                _log.info("backups.stage_removed", stage=path.name, reason="its attempt has ended without it")

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """Give a new, empty directory, and remove it after the block, whatever happens there.

        Raises:
            TransientError: the disk is full before the block is through.
            PermanentError: the directory cannot be written.
        """
        with disk_errors(self._directory):
            make_private(self._directory)
            stage = self._directory / name
            stage.mkdir(mode=_PRIVATE)
            try:
                yield stage
            finally:
                _remove(stage)

    def seal(self, stage: Path, manifest: Manifest) -> dict[str, int]:
        """Write the manifest into a stage, and see that nothing but it and the members is there.

        Give the bytes of each file by name.

        Raises:
            PermanentError: a capture has left something else, or less than it says.
        """
        text = manifest.to_json()
        (stage / FILE_NAME).write_bytes(text)
        there = {str(path.relative_to(stage)): path.stat().st_size for path in stage.rglob("*") if not path.is_dir()}
        sizes = {FILE_NAME: len(text), **{member.name: member.size_bytes for member in manifest.members}}
        if there != sizes:
            faults = sorted(name for name, _ in there.items() ^ sizes.items())
            msg = f"what was captured is not what lies in the stage: {', '.join(dict.fromkeys(faults))}"
            raise PermanentError(msg)
        return sizes


def make_private(directory: Path) -> None:
    """Make a directory that only its owner can look into, and close one that is open to others."""
    directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    directory.chmod(_PRIVATE)


def check_room(directory: Path, needed_bytes: int) -> None:
    """See to it that so much can be written.

    Raises:
        TransientError: there is less room.
    """
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        msg = (
            f"{directory} has {bytes_text(free_bytes)} left, and about {bytes_text(needed_bytes)} are needed: make room"
        )
        raise TransientError(msg)


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Translate what a disk says when it is full, or closed to us.

    Raises:
        TransientError: it is full.
        PermanentError: it must not be written.
    """
    try:
        yield
    except PermissionError as error:
        msg = f"{error.filename or directory} cannot be used: {error.strerror}; `chown -R $(id -un) {directory}`"
        raise PermanentError(msg) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        free = bytes_text(shutil.disk_usage(directory).free)
        msg = f"the disk of {directory} is full ({free} left): make room, or set another backups.directory"
        raise TransientError(msg) from error


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):  # the attempt that took the run over has removed it
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
