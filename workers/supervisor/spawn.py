"""Starting a process that cannot outlive its supervisor, and ending it with all its children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1

# Loaded before any fork: a child between fork and exec must not run the dynamic loader.
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_LONGEST_LOG_BYTES: Final = 10 * 1024 * 1024


class Family:
    """A process and everything it started that stayed in its group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._swept = False

    @property
    def pid(self) -> int:
        """Id of the process and of its group."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Give None while the process runs, else its exit code (negative for a signal).

        When the process has ended, what is left of its group is killed first.
        """
        if self._popen.poll() is not None and not self._swept:
            # Once and at once: later the kernel may have given the id to another group.
            self._swept = True
            self._kill_group()
        return self._popen.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone: it knows how to end its own children."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill the whole group at once and wait for the process."""
        if self.exit_code() is None:
            self._swept = True
            self._kill_group()
            self._popen.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)


def spawn(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, keep_open: Sequence[int] = ()
) -> Family:
    """Start a command with both outputs appended to `log`; secrets belong in `env`, never in `argv`.

    Its files are for this user alone. It gets a session of its own, so that Ctrl-C in the terminal
    reaches the supervisor alone. The kernel kills it when the THREAD that called this ends (prctl(2),
    PR_SET_PDEATHSIG): call it from the main thread. The signal is SIGKILL, because nobody is left then
    to insist.

    Raises:
        OSError: the program or the log cannot be opened.
    """
    _set_aside(log)
    with _opened_log(log) as output:
        popen = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            pass_fds=tuple(keep_open),
            start_new_session=True,
            umask=0o077,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  two system calls, no lock; the supervisor has one thread
        )
    return Family(popen)


def _die_with(parent: int) -> Callable[[], None]:
    def ask_kernel() -> None:
        if _libc is None:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above: nobody would tell us any more
            os._exit(1)

    return ask_kernel


@contextlib.contextmanager
def _opened_log(log: Path) -> Iterator[int]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _set_aside(log: Path) -> None:
    """Keep one older log: a file in use cannot be rotated without the process that writes it."""
    if log.exists() and log.stat().st_size > _LONGEST_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
