"""The check at the end of a session: the tests have left no process behind."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 2.0


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans (prctl(2)), so that none escapes the check."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_leftovers() -> list[str]:
    """Describe the descendants that are still running after a short grace, and kill them."""
    _, alive = psutil.wait_procs(_descendants(), timeout=_GRACE_S)
    found = [_describe(process) for process in alive]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_GRACE_S)
    return found


def _descendants() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if not _belongs_to_python(process)]


def _belongs_to_python(process: psutil.Process) -> bool:
    """Tell whether it is the resource tracker of multiprocessing, which ends with the interpreter."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    return False


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return f"pid {process.pid}: {' '.join(process.cmdline())}"
    return f"pid {process.pid}: ended meanwhile"
