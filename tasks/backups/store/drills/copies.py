"""Copies that are damaged on purpose, and go again: whatever is done to them, the restored set stays as it is."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.store.captures.private_files import new_file
from tasks.backups.store.stages import check_room, disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.staging import Progress

_AT_ONCE_BYTES: Final = 64 * 1024 * 1024
_NOT_HERE: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
"""A kernel or a file system that does not copy by itself."""


@contextmanager
def trial_directory(scratch: Path) -> Iterator[Path]:
    """Give a new private directory for one mutant during the block, and remove it whatever happens there.

    Raises:
        TransientError: the disk became full in the block.
    """
    with disk_errors(scratch):
        path = Path(tempfile.mkdtemp(prefix="mutant-", dir=scratch))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def copy_file(source: Path, to: Path, progress: Progress) -> None:
    """Copy a file into a directory that may not be there yet; where the disk can, both share what is not changed.

    Raises:
        TransientError: the disk has no room for it.
    """
    size_bytes = source.stat().st_size
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_room(to.parent, size_bytes)
    with source.open("rb", buffering=0) as here, new_file(to) as there:
        done = 0
        while copied := _copy_some(here.fileno(), there.fileno()):
            done += copied
            progress("copying", done, size_bytes)


def chance(subject: Subject, name: str) -> random.Random:
    """Give what decides where a mutant is damaged: the same for the same point, another for each mutant."""
    return random.Random(f"{subject.manifest.point} {name}")  # noqa: S311  no secret: a drill can be done again


def flip_bit(path: Path, at: int, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


def _copy_some(here: int, there: int) -> int:
    try:
        return os.copy_file_range(here, there, _AT_ONCE_BYTES)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    content = os.read(here, _AT_ONCE_BYTES)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(there, rest) :]
    return len(content)
