"""What strikes a worker of the backups: each kind of death, the loss of its lease, and two kinds of full disk."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tests.chaos.backups_workers import LOOK_S
from tests.support import wait_until
from tests.support.processes import is_gone
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

    from tests.chaos.backups_crew import StruckCrew
    from tests.chaos.backups_workers import Worker

_DISK_BYTES: Final = 1024 * 1024 * 1024
_MOST_LEFT_EXPONENT: Final = 6
_CLAIM_PATIENCE_S: Final = 5.0
_ENGINE_PATIENCE_S: Final = 60.0


class Blow(Protocol):
    """One way in which the world gets in the way of a worker."""

    @property
    def name(self) -> str:
        """What it is, for the table."""

    @property
    def may_be_survived(self) -> bool:
        """Whether a worker that has felt it may succeed all the same; who else succeeds has not felt it."""

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Strike, and say whether that was in time; whoever survives it goes on until it ends by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStruck:
    """The worker alone gets a signal; its programs hear of its death from the kernel."""

    name: str
    number: signal.Signals
    may_be_survived: bool = False

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Send it."""
        del crew
        return _sent(worker.pid, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStruck:
    """The engine alone gets a signal, and its worker hears of that as of any end of it."""

    name: str
    number: signal.Signals
    may_be_survived: bool = True

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Send it to the engine that works now, or to the next one."""
        del crew
        found: psutil.Process | None = None

        def working() -> bool:
            nonlocal found
            found = worker.engine()
            return found is not None or worker.is_gone

        wait_until(working, timeout_s=_ENGINE_PATIENCE_S, what="an engine at work", interval_s=LOOK_S)
        return found is not None and _sent(found.pid, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllKilled:
    """The worker dies with all its programs in one moment, as by a loss of power."""

    name: str = "kill -9 all"
    may_be_survived: bool = False

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Stop the worker first, so that it starts nothing new meanwhile."""
        del crew
        if not _sent(worker.pid, signal.SIGSTOP):
            return False
        for one in worker.family():
            _sent(one.pid, signal.SIGKILL)
        return _sent(worker.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost:
    """The worker is stopped, alone or with its programs, until its lease has gone to another one, and then goes on.

    So two attempts of one run really work at the same time. A restore has no lease: it only stands still for a while.
    """

    name: str = "lease lost"
    may_be_survived: bool = False

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Stop it, have another worker take the run, and let the first go on at some moment of the work of that one."""
        stopped = [worker.pid]
        if not self._stop(worker, crew):
            return False
        if crew.chance.random() < 1 / 2:
            stopped += [one.pid for one in worker.family() if _sent(one.pid, signal.SIGSTOP)]
        try:
            if worker.errand.run_id:
                self._await_rival(worker, crew)
            pause(crew.chance.uniform(0, 1))
        finally:
            for pid in stopped:
                _sent(pid, signal.SIGCONT)
        return True

    def _stop(self, worker: Worker, crew: StruckCrew) -> bool:
        """Stop it where it has no transaction: else nobody could take anything over until it goes on."""
        while _sent(worker.pid, signal.SIGSTOP):
            if not worker.errand.run_id or crew.can_forfeit():
                return True
            _sent(worker.pid, signal.SIGCONT)
            pause(LOOK_S)
        return False

    def _await_rival(self, worker: Worker, crew: StruckCrew) -> None:
        run_id = worker.errand.run_id
        fence = crew.fence_of(run_id)
        rival = crew.take_over(worker)
        taken = lambda: crew.fence_of(run_id) > fence or rival.is_gone  # noqa: E731  shorter than a function
        with suppress(AssertionError):  # what it has locked on PostgreSQL shows only here: it has to go on
            wait_until(taken, timeout_s=_CLAIM_PATIENCE_S, what="a rival")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesLimited:
    """No file of the worker and its programs grows beyond some length, be it the stage, the vault or the database.

    By RLIMIT_FSIZE (setrlimit(2)), which needs no rights. Python ignores SIGXFSZ, so its writes fail; the engine does
    not, and dies of it.
    """

    name: str = "files limited"
    may_be_survived: bool = False

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Set the limit for all that is there, and thereby for all that comes; nobody takes it back."""
        longest = crew.chance.choice([0, int(10 ** crew.chance.uniform(1, _MOST_LEFT_EXPONENT))])
        if worker.is_gone:
            return False
        for pid in [worker.pid, *(one.pid for one in worker.family())]:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
        return not worker.is_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull:
    """The disk of stages, vaults and restores has no room left, or nearly none, until the worker has ended."""

    disk: SmallDisk
    name: str = "disk full"
    may_be_survived: bool = False

    def strike(self, worker: Worker, crew: StruckCrew) -> bool:
        """Make it as small as what lies on it, and large again."""
        if worker.is_gone:
            return False
        self.disk.leave(int(10 ** crew.chance.uniform(0, _MOST_LEFT_EXPONENT)))
        try:
            worker.wait()
        finally:
            self.disk.make_room()
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A disk in memory."""

    directory: Path

    def leave(self, free_bytes: int) -> None:
        """Leave so much room on it, or what is left, if that is less."""
        self._resize(max(1, shutil.disk_usage(self.directory).used + free_bytes))

    def make_room(self) -> None:
        """Let it be as large as it was."""
        self._resize(_DISK_BYTES)

    def _resize(self, size_bytes: int) -> None:
        argv: list[str | Path] = ["mount", "-o", f"remount,size={size_bytes}", self.directory]
        # One who writes on meanwhile may have taken more than that: then it is full already.
        subprocess.run(argv, check=size_bytes == _DISK_BYTES, capture_output=True)


def blows_on(disk: SmallDisk | None) -> list[Blow]:
    """Give all blows; without a disk of their own, those that need none."""
    return [
        WorkerStruck(name="kill -9 worker", number=signal.SIGKILL),
        WorkerStruck(name="SIGTERM worker", number=signal.SIGTERM),
        EngineStruck(name="kill -9 engine", number=signal.SIGKILL),
        EngineStruck(name="SIGTERM engine", number=signal.SIGTERM),
        AllKilled(),
        LeaseLost(),
        FilesLimited(),
        *([DiskFull(disk=disk)] if disk is not None else []),
    ]


@contextmanager
def mounted_disk(directory: Path) -> Iterator[SmallDisk | None]:
    """Mount a disk in a directory during the block; None where this user may not."""
    options = f"size={_DISK_BYTES},mode=755"
    argv: list[str | Path] = ["mount", "-t", "tmpfs", "-o", options, "nightcrew", directory]
    if shutil.which("mount") is None or subprocess.run(argv, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield SmallDisk(directory=directory)
    finally:
        subprocess.run([shutil.which("umount") or "umount", "--lazy", directory], check=True)


def _sent(pid: int, number: signal.Signals) -> bool:
    """Send a signal, and say whether there was somebody to get it."""
    if is_gone(pid):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
