"""Where the crew keeps its files, and a place for sockets whose paths are bounded.

Under the data directory: `broker/` (the server's append-only file and configuration), `logs/` (one
file a process), `run/` (what only a running crew has).
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from workers.supervisor.errors import DataDirectoryError

_PRIVATE: Final = 0o700

# sun_path holds 108 bytes on Linux and 104 on macOS, with the final NUL (unix(7)).
_LONGEST_SOCKET_PATH_BYTES: Final = 100


def prepare_directory(path: Path) -> Path:
    """Make a directory with mode 700 where it is missing; one that is there must be ours.

    Raises:
        DataDirectoryError: it cannot be made or written, or belongs to someone else.
    """
    try:
        path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        msg = f"{path} cannot be made: {error.strerror}; choose another place with --data-dir"
        raise DataDirectoryError(msg) from error
    if owner != os.geteuid():
        msg = (
            f"{path} belongs to user id {owner}, this is user id {os.geteuid()}: run the crew as its owner, "
            f"or give it the files: chown -R {os.geteuid()} '{path}'"
        )
        raise DataDirectoryError(msg)
    if not os.access(path, os.W_OK | os.X_OK):
        msg = f"{path} cannot be written: chmod u+rwx '{path}'"
        raise DataDirectoryError(msg)
    return path


def place_socket(path: Path) -> Path:
    """Give a path for a socket: the one wanted if the kernel takes it, else one in a short private directory.

    The short one is the same at every start, and only this user can reach it.

    Raises:
        DataDirectoryError: the short directory is not ours alone, or something else than a socket is in the way.
    """
    placed = path
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH_BYTES:
        directory = _runtime_root() / f"nightcrew-{hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]}"
        _make_private(directory)
        placed = directory / path.name
    if placed.is_symlink() or (placed.exists() and not placed.is_socket()):
        msg = f"{placed} is in the way of a socket and is none: move it away"
        raise DataDirectoryError(msg)
    return placed


def remove_socket(placed: Path, *, wanted: Path) -> None:
    """Remove a socket that nobody listens on any more, and the short directory made for it."""
    placed.unlink(missing_ok=True)
    if placed != wanted and not any(placed.parent.iterdir()):
        placed.parent.rmdir()


def _runtime_root() -> Path:
    for root in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if root and len(os.fsencode(root)) <= _LONGEST_SOCKET_PATH_BYTES // 2 and os.access(root, os.W_OK | os.X_OK):
            return Path(root)
    return Path("/tmp")  # noqa: S108  the directory made in it is private, and checked to be


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=_PRIVATE, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _PRIVATE:
        msg = f"{directory} was made by someone else or is open to others: remove it, the crew makes it again"
        raise DataDirectoryError(msg)
