"""Processes that end with the test that started them, whatever happens to the test.

Each gets a process group of its own, so that the whole family can be ended by one id, and the
kernel kills it when the thread that started it dies (`PR_SET_PDEATHSIG`, prctl(2)): a pytest that
is killed leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WITHOUT_BACKUPS: Final = {"NIGHTCREW_BACKUPS__ENABLED": "false"}
"""What tests have in their environment that are about something else: one process less to start."""

_PR_SET_PDEATHSIG = 1
_OUTPUT_TAIL_CHARACTERS = 20_000
_LONGEST_SOCKET_PATH = 107
_ROOM_FOR_NAMES = 60


class SpawnedProcess:
    """A child process whose output goes to a file, so that it never blocks on a full pipe."""

    def __init__(self, argv: Sequence[str | Path], *, log: Path, popen: subprocess.Popen[bytes]) -> None:
        self.argv = [str(part) for part in argv]
        self._log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, which is the id of its group too."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for the signal that killed it, None while it runs."""
        return self._popen.poll()

    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self.returncode is None

    def output(self) -> str:
        """Give what it has written so far to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the process alone; one that has ended gets none."""
        self._popen.send_signal(signal_number)

    def wait(self, *, timeout_s: float) -> int:
        """Wait for its end and give the exit code.

        Raises:
            AssertionError: it is still running after `timeout_s`; the text has its output.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            msg = f"{self.describe()}\nwas still running after {timeout_s:g} s"
            raise AssertionError(msg) from None

    def kill(self) -> None:
        """End the process and everything it started with SIGKILL, and wait for it."""
        family = _family(self.pid) if self.is_running() else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._popen.wait()
        psutil.wait_procs(family)

    def describe(self) -> str:
        """Give command, state and the end of the output, for a failure message."""
        state = "running" if self.is_running() else f"exit code {self.returncode}"
        return f"$ {' '.join(self.argv)}\n[pid {self.pid}, {state}]\n{self.output()[-_OUTPUT_TAIL_CHARACTERS:]}"


@contextlib.contextmanager
def spawned(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[SpawnedProcess]:
    """Run a command during the block; `env` is added to the environment.

    When the block raises, the command's output is added to the error.
    """
    with short_directory() as directory:
        process = start_process(argv, log=directory / "output", env=env, cwd=cwd)
        try:
            yield process
        except BaseException as error:
            error.add_note(process.describe())
            raise
        finally:
            process.kill()


def start_process(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> SpawnedProcess:
    """Start a command that dies with this thread; the caller ends it."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            user=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=_death_with_parent(death_signal),  # noqa: PLW1509 - two system calls, no lock
        )
    return SpawnedProcess(argv, log=log, popen=popen)


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Give a new directory whose path is short enough for unix sockets in it (107 bytes in all)."""
    root = Path(tempfile.gettempdir())
    if len(os.fsencode(root)) + _ROOM_FOR_NAMES > _LONGEST_SOCKET_PATH:
        root = Path("/tmp")  # noqa: S108 - mkdtemp makes the directory unguessable and private
    directory = Path(tempfile.mkdtemp(prefix="nightcrew-", dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that only waits to be reaped counts as ended."""
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return True


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


# Loaded before any fork: a child between fork and exec should not run the dynamic loader.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _death_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def ask_kernel() -> None:
        if _libc is None:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above: nobody would tell us any more
            os._exit(1)

    return ask_kernel
