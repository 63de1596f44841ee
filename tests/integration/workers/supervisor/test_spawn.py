"""Processes that cannot outlive their supervisor."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

from tests.integration.workers.supervisor.scripts import FAMILY
from tests.support import wait_until
from tests.support.processes import is_gone, spawned
from workers.supervisor.spawn import Family, spawn

if TYPE_CHECKING:
    from pathlib import Path

# A supervisor with one child that ignores everything it can, and whose own child does too.
SUPERVISOR = """
import os, signal, sys
from pathlib import Path
from workers.supervisor.spawn import spawn
code = '''
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
signal.pause()
'''
spawn([sys.executable, '-c', code], env=os.environ, cwd=Path(sys.argv[1]), log=Path(sys.argv[1]) / 'child.log')
signal.pause()
"""


def test_a_killed_supervisor_takes_its_child_along(tmp_path: Path) -> None:
    """Even one that ignores SIGTERM: nobody would be left to insist."""
    log = tmp_path / "child.log"
    with spawned([sys.executable, "-c", SUPERVISOR, tmp_path]) as supervisor:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"), timeout_s=10, what="the child")
        child = int(log.read_text())
        assert not is_gone(child)
        supervisor.send(signal.SIGKILL)
        wait_until(lambda: is_gone(child), timeout_s=10, what="the end of the child")


def test_what_a_dead_process_leaves_in_its_group_is_killed(tmp_path: Path) -> None:
    """The child of a killed worker does not linger."""
    family = start(tmp_path, FAMILY)
    try:
        wait_until(lambda: len(numbers(tmp_path)) == 2, timeout_s=10, what="parent and child")
        family.send(signal.SIGKILL)
        wait_until(lambda: family.exit_code() is not None, timeout_s=10, what="the end of the parent")
        wait_until(lambda: all(is_gone(pid) for pid in numbers(tmp_path)), timeout_s=10, what="the end of the child")
    finally:
        family.kill()
    assert family.exit_code() == -signal.SIGKILL


def test_kill_ends_the_whole_group(tmp_path: Path) -> None:
    """No member of the family survives."""
    family = start(tmp_path, FAMILY)
    try:
        wait_until(lambda: len(numbers(tmp_path)) == 2, timeout_s=10, what="parent and child")
    finally:
        family.kill()
    wait_until(lambda: all(is_gone(pid) for pid in numbers(tmp_path)), timeout_s=10, what="the end of both")


def test_the_terminal_of_the_supervisor_is_not_the_child_s(tmp_path: Path) -> None:
    """Ctrl-C goes to the group of the terminal, so a child must be in another one."""
    family = start(tmp_path, "import os; print(os.getsid(0), flush=True)")
    end(family)
    assert numbers(tmp_path) == [family.pid]
    assert os.getsid(0) != family.pid


def test_logs_are_private_and_appended(tmp_path: Path) -> None:
    """A second life does not wipe what the first one wrote."""
    for _ in range(2):
        end(start(tmp_path, "print(1)"))
    assert numbers(tmp_path) == [1, 1]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def start(directory: Path, code: str) -> Family:
    env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return spawn([sys.executable, "-c", code], env=env, cwd=directory, log=directory / "log")


def end(family: Family) -> None:
    wait_until(lambda: family.exit_code() is not None, timeout_s=10, what="the end")


def numbers(directory: Path) -> list[int]:
    return [int(line) for line in (directory / "log").read_text().split()]
