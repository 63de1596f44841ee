"""Running the programs that backups are made with: the engine, and the tools of PostgreSQL and Redis.

Arguments are a list and never a shell's, secrets go into the environment or a file, and a program that is not wanted
any more is interrupted first: restic and the tools of PostgreSQL clean up after SIGINT, and leave locks after SIGTERM.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Literal

from tasks.backups.store.pulse import Pulse
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.staging import Limits

_TICK_S: Final = 0.5
_INTERRUPT_PATIENCE_S: Final = 30.0
_CHUNK_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 64 * 1024
_INHERITED: Final = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


class ProgramMissingError(PermanentError):
    """A program is not installed; the text has the command that installs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left behind."""

    code: int
    """Negative for the signal that ended it."""
    output: str
    """The last 64 KiB of its standard output, unless somebody took its lines."""
    errors: str
    """The last 64 KiB of its standard error."""

    @property
    def last_words(self) -> str:
        """The last line that it wrote to standard error, for one-line messages."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1] if lines else self.ending

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        return f"exit code {self.code}" if self.code >= 0 else f"it was killed ({signal.strsignal(-self.code)})"


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    limits: Limits,
    tick: Callable[[], None],
    on_line: Callable[[str], None] | None = None,
    on_errors: Callable[[str], None] | None = None,
) -> Finished:
    """Run a program to its end and give what it left; its exit code is the caller's to judge.

    `on_errors` hears the end of what the program has written to standard error whenever there is more of it. `tick` is
    called twice a second and is a checkpoint: whatever it, `on_line` or `on_errors` raises passes, after the program
    was interrupted, given half a minute to clean up, and killed. The kernel interrupts it too when the thread that
    called this dies (setpriv(1), `--pdeathsig`), so that a killed worker leaves no lock behind.

    `env` is all that the program gets beside PATH, HOME and the locale. It is ended in the same way when it has done
    nothing for as long as the limits say.

    Raises:
        ProgramMissingError: there is no such program.
        StalledError: it has done nothing for too long.
    """
    if shutil.which(argv[0]) is None:
        msg = f"{argv[0]} is not installed"
        raise ProgramMissingError(msg)
    with _started([*polite(limits, at_death="INT"), *argv], env, cwd) as popen:
        if limits.patience_s is not None:
            tick = _feeling(Pulse(popen.pid, patience_s=limits.patience_s), tick)
        output, errors = _listen(popen, tick, on_line, on_errors)
        return Finished(code=popen.wait(), output=output, errors=errors)


def polite(limits: Limits, *, at_death: Literal["INT", "KILL"]) -> list[str]:
    """Give what to put before a program, so that it steps back and dies with the thread that starts it.

    With programs that every Debian has (util-linux, coreutils); each of them becomes the next, so the pid stays.
    """
    tied = ["setpriv", "--pdeathsig", at_death, "--"]
    nice = ["nice", "-n", str(limits.nice)]
    idle = ["ionice", "-c", "3", "-t"] if limits.idle_io else []
    return [*tied, *nice, *idle]


def _feeling(pulse: Pulse, tick: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        pulse.feel()
        tick()

    return both


@contextmanager
def _started(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    popen = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**inherited, **env},
        cwd=cwd,
        start_new_session=True,  # Ctrl-C reaches us, and through us the program, once
        umask=0o077,
    )
    with popen:
        try:
            yield popen
        except BaseException:
            _end(popen)
            raise


def _end(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is not None:
        return
    popen.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _INTERRUPT_PATIENCE_S
    # Somebody has to read what it still says, or it would wait for us as we for it.
    while popen.poll() is None and time.monotonic() < deadline:
        _drain(popen)
    if popen.poll() is None:
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()


def _drain(popen: subprocess.Popen[bytes]) -> None:
    with selectors.DefaultSelector() as selector:
        for pipe in (popen.stdout, popen.stderr):
            if pipe is not None and not pipe.closed:
                selector.register(pipe, selectors.EVENT_READ)
        ready = selector.select(timeout=0.1)
    said = b"".join([os.read(key.fd, _CHUNK_BYTES) for key, _ in ready])
    if not said:
        try:
            popen.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            return


def _listen(
    popen: subprocess.Popen[bytes],
    tick: Callable[[], None],
    on_line: Callable[[str], None] | None,
    on_errors: Callable[[str], None] | None,
) -> tuple[str, str]:
    """Read both outputs until they end; give the tails of both."""
    tails: dict[str, bytes] = {"output": b"", "errors": b""}
    ticked_s = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(_pipe(popen.stdout), selectors.EVENT_READ, "output")
        selector.register(_pipe(popen.stderr), selectors.EVENT_READ, "errors")
        while selector.get_map():
            for key, _ in selector.select(timeout=_TICK_S):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                tails[key.data] = _kept(tails[key.data] + chunk, on_line if key.data == "output" else None)
                if chunk and on_errors is not None and key.data == "errors":
                    on_errors(tails["errors"].decode(errors="replace"))
            if time.monotonic() - ticked_s >= _TICK_S:
                ticked_s = time.monotonic()
                tick()
    if on_line is not None and tails["output"]:
        on_line(tails["output"].decode(errors="replace"))
    return tails["output"].decode(errors="replace"), tails["errors"].decode(errors="replace")


def _kept(text: bytes, on_line: Callable[[str], None] | None) -> bytes:
    """Hand whole lines over, and keep what is left."""
    if on_line is None:
        return text[-_TAIL_BYTES:]
    *lines, rest = text.split(b"\n")
    for line in lines:
        on_line(line.decode(errors="replace"))
    return rest


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  it was asked for above
    return pipe
