"""One supervisor for a data directory, and never two servers on one append-only file.

The lock is a flock(2) on `<data>/broker.lock`, and the broker inherits the open file: should the
supervisor be killed, the directory stays locked until the server has ended too.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, Self

from workers.supervisor.errors import AlreadyRunningError

if TYPE_CHECKING:
    from pathlib import Path

# A server whose supervisor was killed is killed by the kernel a moment later: worth waiting for.
_PATIENCE_S: Final = 5.0
_INTERVAL_S: Final = 0.02


class DirectoryLock:
    """Holds the data directory from `acquire` to `release`; the file says the pid of its holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file, for a child that shall hold the lock too."""
        if self._descriptor is None:
            msg = f"{self._path} is not locked"
            raise LookupError(msg)
        return self._descriptor

    def acquire(self) -> Self:
        """Take the lock; while its holder is dying, wait for it.

        Raises:
            AlreadyRunningError: another supervisor, or a server that it left, has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _read_pid(descriptor)
                alive = holder is not None and is_running(holder)
                if alive or time.monotonic() >= deadline:
                    raise AlreadyRunningError(_refusal(self._path, holder, alive=alive), pid=holder) from None
                time.sleep(_INTERVAL_S)
            else:
                return


def _refusal(path: Path, holder: int | None, *, alive: bool) -> str:
    if alive:
        return (
            f"a crew runs already in {path.parent} (supervisor pid {holder}): "
            f"end it with `kill {holder}`, or choose another --data-dir"
        )
    return (
        f"{path} is held by a process that a crew left behind (its supervisor, pid {holder}, is gone): "
        f"`fuser '{path}'` names it; end that one first"
    )


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def is_running(pid: int) -> bool:
    """Tell whether there is a process with this id, whoever it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
