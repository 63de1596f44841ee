"""The processes of a disaster: a small crew and its apps, each killed by its own id."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import psutil

from tasks.backups.drills.disaster import Journal, counts_of
from tasks.errors import TransientError
from workers.disaster.load import read_journal
from workers.settings.loading import SECRETS_DIRECTORY
from workers.supervisor.crew_process import CrewProcess
from workers.supervisor.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightcrew import Nightcrew
    from workers.disaster.place import Place
    from workers.supervisor.spawn import Family

PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.05
_FILLER: Final = "filler"
_OURS: Final = "NIGHTCREW_"
_OF_TESTS: Final = "NIGHTCREW_TEST_"


class SmallCrew:
    """The crew that is destroyed; it and its apps end with this process, whatever happens to it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._process: CrewProcess | None = None
        self._apps: dict[str, Family] = {}
        self._pids: set[int] = set()
        self._filled: list[Journal] = []
        self.names: list[str] = []
        """Every app that there was."""
        self.broker_url = ""

    def start(self) -> None:
        """Start it and wait until it takes work.

        Raises:
            ChildStartError: it does not come up.
        """
        command = [*without_settings(), sys.executable, "-m", "workers.cli", "up"]
        self._process = CrewProcess(self._place.crew, with_flower=False, command=command)
        self._process.start()
        record = self._process.wait_ready(timeout_s=PATIENCE_S)
        self.broker_url = record.broker_url
        self._pids |= {record.pid, *record.children.values()}

    def start_app(self, name: str) -> None:
        """Start an app."""
        journal = self._place.journal(name)
        argv = [*without_settings(), sys.executable, "-m", "workers.disaster.load", self.broker_url, str(journal), name]
        family = spawn(argv, env=os.environ, cwd=journal.parent, log=journal.with_suffix(".log"))
        self._apps[name] = family
        self._pids.add(family.pid)
        self.names.append(name)

    def fill(self, app: Nightcrew, rounds: int) -> None:
        """Do the work of many rounds of an app at once, and write it down as that of an app of its own."""
        at = [datetime.now(UTC)] * rounds
        app.usage.increment_many(counts_of(_FILLER, rounds))
        app.usage.flush(PATIENCE_S)
        self._filled = [Journal(app=_FILLER, begun=at, acknowledged=at)]

    def journals(self) -> list[Journal]:
        """Read what all apps wrote so far."""
        return [*self._filled, *(read_journal(self._place.journal(name), name) for name in self.names)]

    def kill(self) -> None:
        """Kill every process of the crew at once, and wait until none is there."""
        if self._process is None:
            return
        record = self._process.record()
        pids = set() if record is None else set(record.children.values())
        self._pids |= pids
        self._process.kill()
        for pid in pids:  # the kernel does the same; neither waits for the other
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process = None
        wait_for(lambda: all(is_gone(pid) for pid in pids), "the end of the crew that was killed")

    def kill_apps(self) -> None:
        """Kill every app in the middle of what it does."""
        for family in self._apps.values():
            family.kill()
        self._apps.clear()

    def end_apps(self) -> None:
        """Let every app end when its round is acknowledged."""
        for family in self._apps.values():
            family.send(signal.SIGTERM)
        wait_for(lambda: all(app.exit_code() is not None for app in self._apps.values()), "the end of the apps")
        self._apps.clear()

    def stop(self) -> None:
        """End everyone who is still there; harmless again."""
        self.kill_apps()
        if self._process is not None:
            with suppress(LookupError):
                self._process.stop()
            self._process = None

    def left_behind(self) -> list[int]:
        """Give the ids of processes that are still there."""
        return sorted(pid for pid in self._pids if not is_gone(pid))


def without_settings() -> Sequence[str]:
    """Give what to put before a command, so that it knows nothing of the real crew."""
    names = [
        name
        for name in os.environ
        if (name.upper().startswith(_OURS) and not name.upper().startswith(_OF_TESTS)) or name == SECRETS_DIRECTORY
    ]
    return ["env", *(part for name in names for part in ("-u", name))]


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, also where nobody has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(is_so: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so.

    Raises:
        TransientError: it took too long.
    """
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            msg = f"{what} did not come within {patience_s:g} s"
            raise TransientError(msg)
        time.sleep(_LOOK_S)
