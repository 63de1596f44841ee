"""One supervisor for a data directory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import wait_until
from tests.support.processes import is_gone, spawned
from workers.supervisor.errors import AlreadyRunningError
from workers.supervisor.lock import DirectoryLock

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import signal, sys
from pathlib import Path
from workers.supervisor.lock import DirectoryLock
DirectoryLock(Path(sys.argv[1])).acquire()
print('locked', flush=True)
signal.pause()
"""


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The message says whom to end."""
    path = tmp_path / "broker.lock"
    with spawned([sys.executable, "-c", HOLDER, path]) as holder:
        wait_until(lambda: "locked" in holder.output(), timeout_s=10, what="the lock")
        with pytest.raises(AlreadyRunningError, match=rf"pid {holder.pid}\)") as refusal:
            DirectoryLock(path).acquire()
        assert refusal.value.pid == holder.pid


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    """No stale lock has to be removed by hand."""
    path = tmp_path / "broker.lock"
    with spawned([sys.executable, "-c", HOLDER, path]) as holder:
        wait_until(lambda: "locked" in holder.output(), timeout_s=10, what="the lock")
        holder.kill()
        lock = DirectoryLock(path).acquire()
        assert path.read_text() == f"{os.getpid()}\n"
        lock.release()


def test_a_dying_holder_is_waited_for(tmp_path: Path) -> None:
    """A server that inherited the lock keeps it until it has ended too, although its supervisor is gone."""
    path = tmp_path / "broker.lock"
    lock = DirectoryLock(path).acquire()
    path.write_text("4194304\n")  # no process has this id: it is the bound of the kernel
    heir = [sys.executable, "-c", "import select; select.select([], [], [], 0.5)"]
    with subprocess.Popen(heir, pass_fds=[lock.descriptor]) as server:
        lock.release()
        again = DirectoryLock(path).acquire()
        assert server.poll() is not None or is_gone(server.pid)
        again.release()


def test_release_gives_the_lock_back(tmp_path: Path) -> None:
    """One process can hold it again and again."""
    lock = DirectoryLock(tmp_path / "broker.lock")
    for _ in range(2):
        lock.acquire()
        lock.release()
        lock.release()
