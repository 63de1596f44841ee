"""A crew in a process of its own, for a caller that needs its main thread: the demo, tests, chaos runs."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from workers.supervisor.crew_file import NAME, CrewRecord, read_record
from workers.supervisor.directories import prepare_directory
from workers.supervisor.errors import ChildStartError
from workers.supervisor.spawn import Family, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_INTERVAL_S: Final = 0.02
_STOP_TIMEOUT_S: Final = 25.0
_TAIL_CHARACTERS: Final = 4000


class CrewProcess:
    """`nightcrew up` during the block; it ends with the caller, whatever happens to the caller.

    Start it from the thread that outlives it (see `spawn`).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        with_flower: bool = True,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "workers.cli", "up"),
    ) -> None:
        """`command` runs a crew and takes the options `--data-dir` and `--no-flower`."""
        self._data_dir = data_dir
        self._command = tuple(command)
        self._with_flower = with_flower
        self._env = {**os.environ, **(env or {})}
        self._family: Family | None = None
        self.log = data_dir / "logs" / "supervisor.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._running().pid

    def start(self) -> None:
        """Start the supervisor; it is not ready then.

        Raises:
            DataDirectoryError: the directory cannot be used.
        """
        prepare_directory(self._data_dir)
        prepare_directory(self.log.parent)
        argv = [*self._command, "--data-dir", str(self._data_dir.absolute())]
        if not self._with_flower:
            argv.append("--no-flower")
        self._family = spawn(argv, env=self._env, cwd=self._data_dir, log=self.log)

    def wait_ready(self, *, timeout_s: float = 60.0) -> CrewRecord:
        """Wait until every process of the crew takes work.

        Raises:
            ChildStartError: the supervisor ended, or someone was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            code = self._running().exit_code()
            record = self.record()
            if code is None and record is not None and record.complete:
                return record
            if code is not None or time.monotonic() >= deadline:
                why = "is not ready" if code is None else f"ended with exit code {code}"
                msg = f"the crew in {self._data_dir} {why}; the end of {self.log}:\n{self._log_tail()}"
                raise ChildStartError(msg)
            time.sleep(_INTERVAL_S)

    def record(self) -> CrewRecord | None:
        """Give the crew as it is now; None before it runs and after its end."""
        record = read_record(self._data_dir / "run" / NAME)
        return record if record is not None and record.pid == self.pid else None

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self._running().send(number)

    def exit_code(self) -> int | None:
        """Give the exit code; None while the supervisor runs."""
        return self._running().exit_code()

    def stop(self, *, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """End the crew in order and give the exit code; after `timeout_s` it is killed. Harmless when it has ended."""
        family = self._running()
        if family.exit_code() is None:
            family.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while (code := family.exit_code()) is None:
            if time.monotonic() >= deadline:
                family.kill()
            time.sleep(_INTERVAL_S)
        return code

    def kill(self) -> None:
        """Kill the supervisor with SIGKILL; the kernel ends its children."""
        self._running().kill()

    def _running(self) -> Family:
        if self._family is None:
            raise LookupError("the crew was not started")
        return self._family

    def _log_tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]
