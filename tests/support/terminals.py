"""Commands on a terminal of their own: what a person sees, and what a person types."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ROWS_AND_COLUMNS = {"LINES": "30", "COLUMNS": "120", "TERM": "xterm-256color"}


class Terminal:
    """A command and the terminal that it draws on."""

    def __init__(self, popen: subprocess.Popen[bytes], descriptor: int) -> None:
        self.drawn = ""
        self._popen = popen
        self._descriptor = descriptor

    def type(self, text: str) -> None:
        r"""Type a text; `\x03` is Ctrl-C."""
        os.write(self._descriptor, text.encode())

    def read_until(self, text: str, *, timeout_s: float) -> str:
        """Read what is drawn until it contains a text; give all of it.

        Raises:
            AssertionError: it does not come, or the command ends before.
        """
        deadline = time.monotonic() + timeout_s
        while text not in self.drawn:
            assert self._read(deadline), f"{text!r} was not drawn within {timeout_s:g} s: {self.drawn[-4000:]}"
        return self.drawn

    def wait(self, *, timeout_s: float) -> int:
        """Read to the end of the command; give its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self._popen.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return False
        try:
            part = os.read(self._descriptor, 65_536)
        except OSError:  # so Linux reports that nobody has the other side open any more
            return False
        self.drawn += part.decode("utf-8", "replace")
        return bool(part)


@contextmanager
def on_terminal(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run a command on a terminal of 30 rows and 120 columns during the block."""
    ours, theirs = pty.openpty()
    popen = subprocess.Popen(
        list(map(str, argv)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **_ROWS_AND_COLUMNS, **(env or {})},
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - a few system calls, no lock
    )
    os.close(theirs)
    try:
        yield Terminal(popen, ours)
    finally:
        os.close(ours)
        popen.kill()
        popen.wait()


def _take_terminal() -> None:
    """Make the standard input of a new session its terminal, so that Ctrl-C reaches it and is heard.

    Whoever was started in the background has inherited that it is ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
