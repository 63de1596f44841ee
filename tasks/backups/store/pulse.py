"""Whether a program does anything: one that waits for a server that has gone silent waits for ever.

The engine gives its requests no end (restic before 0.17), and a connection whose other side was cut off says nothing.
So it is looked at from outside: what a process reads and writes (`/proc/PID/io`, sockets included), and its time on the
processor. What little a program does for itself while it waits, such as telling how far it is, is below both bounds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from tasks.errors import TransientError

_LEAST_BYTES: Final = 64 * 1024
_LEAST_CPU_S: Final = 5.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_COUNTED: Final = ("rchar:", "wchar:")


class StalledError(TransientError):
    """A program has done nothing for so long that it was ended."""


class Pulse:
    """Watches a program."""

    def __init__(self, pid: int, *, patience_s: float) -> None:
        """Begin to watch; `patience_s` is how long it may do nothing, and half of what it may take to see that."""
        self._pid, self._patience_s = pid, patience_s
        self._looked_s = time.monotonic()
        self._bytes, self._cpu_s = 0, 0.0

    def feel(self) -> None:
        """See whether it lives; cheap, to be called often.

        Raises:
            StalledError: it does not.
        """
        if time.monotonic() - self._looked_s < self._patience_s:
            return
        moved, cpu_s = _moved_bytes(self._pid), _cpu_s(self._pid)
        if moved is None or cpu_s is None:
            return  # it has ended, or cannot be looked at
        if moved - self._bytes < _LEAST_BYTES and cpu_s - self._cpu_s < _LEAST_CPU_S:
            msg = f"it has neither read, written nor worked for {self._patience_s:.0f} s"
            raise StalledError(msg)
        self._looked_s, self._bytes, self._cpu_s = time.monotonic(), moved, cpu_s


def _moved_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith(_COUNTED))


def _cpu_s(pid: int) -> float | None:
    """Give the time in programs and for them in the system (proc(5), fields 14 and 15)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
