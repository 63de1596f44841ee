"""Forks and exits: what happens to an object of this library when its process splits or ends."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Forkable(Protocol):
    """An object that must begin anew in a child process."""

    def after_fork_in_child(self) -> None:
        """Drop everything inherited: threads are gone, locks may be held by them, sockets belong to the parent."""


_forkables: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[object] = []


def reset_in_children(forkable: Forkable) -> None:
    """Have the object begin anew in each child process that is forked from now on."""
    _forkables.add(forkable)


def keep_inherited(*objects: object) -> None:
    """Keep what belongs to the parent alive, so that no finalizer closes the parent's connections."""
    _inherited.extend(objects)


def call_at_exit(callback: Callable[[], None]) -> None:
    """Call this when the interpreter ends."""
    atexit.register(callback)


def call_at_child_exit(callback: Callable[[], None]) -> None:
    """Call this at the end of a child of multiprocessing or billiard, which skips `atexit`; elsewhere do nothing."""
    for package in ("multiprocessing", "billiard"):
        process = sys.modules.get(f"{package}.process")
        finalizers: Any = sys.modules.get(f"{package}.util")
        if process is not None and finalizers is not None and _is_child(process):
            finalizers.Finalize(None, callback, exitpriority=0)


def forget_at_exit(callback: Callable[[], None]) -> None:
    """Call it no more."""
    atexit.unregister(callback)


def _is_child(process: Any) -> bool:
    if hasattr(process, "parent_process"):
        return process.parent_process() is not None
    return getattr(process.current_process(), "_parent_pid", None) is not None  # billiard


def _reset_all() -> None:
    for forkable in list(_forkables):
        forkable.after_fork_in_child()


os.register_at_fork(after_in_child=_reset_all)
