"""Workers of the backups, one for each errand: begun in a moment, watched, and missed by nobody when they die."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client
from typing import TYPE_CHECKING, Final

import psutil

from tests.chaos.backups_worker import Errand, Told
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory, spawned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

_ENGINE: Final = "restic"
_START_S: Final = 60.0
_END_S: Final = 180.0
_GONE_S: Final = 45.0
"""Until nothing is left of a worker: a program has half a minute to clean up after an interruption."""
LOOK_S: Final = 0.002
_SHOWN: Final = 6_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker on an errand."""

    pid: int
    errand: Errand
    files: Path

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return is_gone(self.pid)

    @property
    def phase(self) -> str:
        """The last one that it has told of."""
        with suppress(FileNotFoundError):
            return self.files.with_suffix(".phases").read_text().rstrip().rpartition("\n")[2]
        return ""

    @property
    def told(self) -> Told | None:
        """What it has told of its end; None if it could not."""
        with suppress(FileNotFoundError):
            return Told(**json.loads(self.files.with_suffix(".outcome").read_text()))
        return None

    def family(self) -> list[psutil.Process]:
        """Give the programs that it runs."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def engine(self) -> psutil.Process | None:
        """Give the engine of the vault, once it works for this worker."""
        for one in self.family():
            with suppress(psutil.NoSuchProcess):
                if one.name() == _ENGINE:
                    return one
        return None

    def wait(self) -> Told | None:
        """Wait until it has ended, and give what it told.

        Raises:
            AssertionError: it works for ever; the text says at what.
        """
        try:
            wait_until(lambda: self.is_gone, timeout_s=_END_S, what="the end of a worker", interval_s=LOOK_S)
        except AssertionError as error:
            error.add_note(self.describe())
            raise
        return self.told

    def describe(self) -> str:
        """Say what it did, for a failure message."""
        with suppress(FileNotFoundError):
            log = self.files.with_suffix(".log").read_text()[-_SHOWN:]
            return f"{self.errand}\nphase {self.phase!r}, runs {self.family()}, told {self.told}\n{log}"
        return f"{self.errand}: nothing was said"


@dataclass(slots=True, kw_only=True)
class Workers:
    """Where workers come from."""

    caller: Connection
    forker: int
    files: Path
    servers: frozenset[int]
    """Other processes of the test, which stay."""
    begun: list[Worker] = field(default_factory=list)

    def begin(self, errand: Errand) -> Worker:
        """Have a worker begin."""
        files = self.files / f"{len(self.begun)}-{errand.operation}"
        self.caller.send((errand, files))
        worker = Worker(pid=self.caller.recv(), errand=errand, files=files)
        self.begun.append(worker)
        return worker

    def settle(self) -> None:
        """Wait until nothing of any worker is left.

        Raises:
            AssertionError: a program has outlived it.
        """
        try:
            wait_until(lambda: not self._left(), timeout_s=_GONE_S, what="the end of all programs", interval_s=0.02)
        except AssertionError as error:
            error.add_note(f"left are {self._left()}")
            raise

    def _left(self) -> list[psutil.Process]:
        """Give what still runs: workers, and programs whose worker is dead, whose parent is this process now.

        What is dead and not yet buried counts. The engine, which asks for the pid in a lock, takes it for alive; and a
        worker's last thread may still be dying, with its programs not yet handed over to this process.
        """
        workers = psutil.Process(self.forker).children()
        orphans = [one for one in psutil.Process().children() if one.pid not in {*self.servers, self.forker}]
        for one in orphans:
            with suppress(ChildProcessError):  # bury it; one that lives stays
                os.waitpid(one.pid, os.WNOHANG)
        return [*workers, *(one for one in orphans if psutil.pid_exists(one.pid))]


@contextmanager
def workers_in(files: Path) -> Iterator[Workers]:
    """Give workers during the block; they tell what they do in files in this directory."""
    servers = frozenset(child.pid for child in psutil.Process().children())
    with short_directory() as directory:
        socket = directory / "errands"
        with spawned([sys.executable, "-m", "tests.chaos.backups_worker", socket]) as forker:
            wait_until(lambda: socket.exists() or not forker.is_running(), timeout_s=_START_S, what="a forker")
            with Client(str(socket)) as caller:
                yield Workers(caller=caller, forker=forker.pid, files=files, servers=servers)
