"""Directories that go with the process that made them: at the end of a block, or with the next one, if it was killed.

Whoever lives has its directory locked (flock(2)), and the kernel gives the locks of the dead back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def sandbox(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new private directory during the block, and remove those of this prefix that the dead have left.

    One that was renamed in the block stays.

    Raises:
        OSError: the parent cannot be written.
    """
    sweep(parent, prefix)
    path, lock = _claimed(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        sweep(parent, prefix)  # a program of somebody who had just died may have written on at the beginning


def sweep(parent: Path, prefix: str) -> None:
    """Remove our directories of this prefix that nobody has locked."""
    for path in parent.glob(f"{_literal(prefix)}*"):
        # Not ours (those of root may be a server's account's), gone, or on a disk without locks: left alone.
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.geteuid() in {os.fstat(lock).st_uid, 0}:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _claimed(parent: Path, prefix: str) -> tuple[Path, int]:
    """Make a directory and lock it; one that was swept before it was locked is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _is_locked(lock) and path.exists():
                return path, lock
            os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a disk without locks: nobody sweeps there either
    return True


def _literal(prefix: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in prefix)
