"""The directory of one drill, what killed ones have left, and what a drill must never be done in.

<backups>/drills/               locked (flock(2)) by the one drill that is going on
<backups>/drills/drill-<random>/  gone with the drill; of one that was killed, with the next one, the next job or start
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.drill import Room
from tasks.backups.store.captures.postgresql.private_server import sweep_servers as sweep_postgresql
from tasks.backups.store.private_redis import sweep_servers as sweep_redis
from tasks.backups.store.sandboxes import sandbox, sweep
from tasks.backups.store.stages import disk_errors, make_private
from tasks.backups.store.targets import close_again, enterable
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DIRECTORY: Final = "drills"
PREFIX: Final = "drill-"


class LiveNameError(PermanentError):
    """A drill would be done in, or over, something that lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlace:
    """A directory with something that lives in it."""

    path: Path
    says: str
    """What it is, for people."""
    is_closed: bool
    """Whether nothing else may be anywhere below it, as in a vault; in a data directory there is room beside."""


@contextmanager
def drill_room(backups: Path, live: Sequence[LivePlace], *, passable: bool) -> Iterator[Room]:
    """Open a room for a drill below the directory of the backups, and remove it after the block.

    `passable` lets other accounts pass through to it, if we are root: a PostgreSQL that refuses to run as root.

    Raises:
        LiveNameError: it would be where something lives; nothing was made.
        PermanentError: the directory cannot be used.
        TransientError: another drill is going on, or the disk is full before the block is through.
    """
    drills = backups / DIRECTORY
    check_apart(drills, live)
    with disk_errors(drills), ExitStack() as stack:
        _make_closed(backups)
        make_private(drills)
        if not stack.enter_context(_locked(drills)):
            msg = f"another drill is going on in {drills}"
            raise TransientError(msg)
        directory = stack.enter_context(sandbox(drills, PREFIX))
        check_apart(directory, live)
        room = Room(directory=directory)
        for path in (room.fetched, room.scratch):
            path.mkdir(mode=0o700)
        if passable:
            stack.enter_context(enterable(backups, drills, directory))
        yield room


def check_apart(directory: Path, live: Sequence[LivePlace]) -> None:
    """See that a directory is none that lives, holds none, and lies in none that is closed; no link may hide it.

    Raises:
        LiveNameError: it is not so.
    """
    if directory.is_symlink():
        msg = f"{directory} is a symbolic link: a drill is done in a directory of its own, remove the link"
        raise LiveNameError(msg)
    place = directory.resolve()
    for one in live:
        other = one.path.resolve()
        if place == other or place in other.parents or (one.is_closed and other in place.parents):
            msg = f"a drill in {directory} would touch {one.says} at {one.path}: set another backups.directory"
            raise LiveNameError(msg)


def sweep_leftovers(backups: Path) -> None:
    """Remove what drills have left that were killed, and the private servers' directories; close what they opened.

    A drill that is going on keeps what it has.
    """
    sweep_redis()
    sweep_postgresql()
    drills = backups / DIRECTORY
    with suppress(OSError), _locked(drills) as is_ours:  # not there yet, or not ours
        if is_ours:
            sweep(drills, PREFIX)
            close_again(drills)
            close_again(backups)


@contextmanager
def _locked(drills: Path) -> Iterator[bool]:
    """Say whether we are the only ones at drills; the kernel gives the lock of the dead back."""
    lock = os.open(drills, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield _is_locked(lock)
    finally:
        os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a disk without locks: the lease of the drills must do
    return True


def _make_closed(backups: Path) -> None:
    """Make the directory of the backups, if there is none; one that is there is as open as its owner wants it."""
    if not backups.is_dir():
        make_private(backups)
