"""One process of the crew: started, watched, started again when it dies, and ended for certain.

A child never waits: `tick()` does what is due and `due_in_s()` says when it wants to be called again,
so that one loop serves them all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from workers.supervisor.restarts import DEFAULT_POLICY
from workers.supervisor.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from signal import Signals

    from workers.supervisor.restarts import RestartPolicy
    from workers.supervisor.spawn import Family

State = Literal["new", "starting", "ready", "pausing", "stopping", "ended"]
EventKind = Literal["started", "ready", "died", "unstartable", "unrecorded", "stopping", "stopped"]

_PROBE_INTERVAL_S: Final = 0.02
_TAIL_BYTES: Final = 4000
_TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep:
    """A signal, and how long the process has to end on it."""

    signal: Signals
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run and how to treat it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment; it may hold secrets."""
    cwd: Path
    log: Path
    stop_steps: tuple[StopStep, ...]
    """Tried in turn; SIGKILL to the whole group follows by itself."""
    probe: Callable[[int], bool] | None = None
    """Asked with the pid until it says ready; without a probe the child tells it (`notify.py`)."""
    keep_open: tuple[int, ...] = ()
    """Descriptors that the process inherits."""
    restarts: RestartPolicy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewEvent:
    """Something that happened to a process of the crew."""

    kind: EventKind
    name: str
    pid: int
    took_s: float
    """From the start of the process to ready or its end; from the first signal to `stopped`."""
    exit_code: int | None = None
    """Negative for the signal that ended it."""
    pause_s: float | None = None
    """With `died` and `unstartable`: until it is started again."""
    reason: str = ""
    """With `unstartable` and `unrecorded`: what the system said."""


class Child:
    """Follows one process through its lives; all methods return at once, except `kill`."""

    def __init__(self, spec: ChildSpec, *, listener: Callable[[CrewEvent], None]) -> None:
        self.spec = spec
        self.state: State = "new"
        self.restarts = 0
        self.deaths_before_ready = 0
        self._listener = listener
        self._family: Family | None = None
        self._failures = 0
        self._started_at = 0.0  # times of this class are those of time.monotonic()
        self._due_at: float | None = None
        self._stop_began_at = 0.0
        self._steps_left: list[StopStep] = []

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._family.pid if self._family is not None else None

    def start(self) -> None:
        """Start the process; from the main thread only (see `spawn`).

        Raises:
            OSError: the program or the log cannot be opened.
        """
        spec = self.spec
        self._family = spawn(spec.argv, env=spec.env, cwd=spec.cwd, log=spec.log, keep_open=spec.keep_open)
        self._started_at = time.monotonic()
        self._due_at = self._started_at if spec.probe else None
        self.state = "starting"
        self._tell("started")

    def tick(self) -> None:
        """Notice an end, ask the probe, take the next step of a stop or a restart that is due."""
        if self._family is not None and (code := self._family.exit_code()) is not None:
            self._end(code)
            return
        if self._due_at is None or time.monotonic() < self._due_at:
            return
        if self.state == "starting":
            self._ask_probe()
        elif self.state == "pausing":
            self._start_again()
        elif self.state == "stopping":
            self._take_step()

    def due_in_s(self) -> float | None:
        """Give the time until `tick` has something to do by the clock; None: only when the process changes."""
        return None if self._due_at is None else max(0.0, self._due_at - time.monotonic())

    def note_ready(self) -> None:
        """Take note that the process said it is ready."""
        if self.state == "starting":
            self.state = "ready"
            self.deaths_before_ready = 0
            self._due_at = None
            self._tell("ready")

    def begin_stop(self) -> None:
        """Ask the process to end; `tick` insists until it has."""
        if self._family is None:
            self.state = "ended"
            self._due_at = None
        elif self.state != "stopping":
            self.state = "stopping"
            self._stop_began_at = time.monotonic()
            self._steps_left = list(self.spec.stop_steps)
            self._tell("stopping")
            self._take_step()

    def kill(self) -> None:
        """End the process and its whole group now."""
        if self._family is not None:
            self._family.kill()
            self._end(self._family.exit_code() or 0, again=False)
        self.state = "ended"
        self._due_at = None

    def log_tail(self) -> str:
        """Give the end of its log, for an error message."""
        try:
            with self.spec.log.open("rb") as log:
                log.seek(max(0, self.spec.log.stat().st_size - _TAIL_BYTES))
                return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])
        except FileNotFoundError:
            return ""

    def _start_again(self) -> None:
        """Start it once more; a full disk or a lack of memory may pass, so failing is one more death."""
        try:
            self.start()
        except OSError as error:
            self._failures += 1
            pause_s = self.spec.restarts.pause_s(self._failures)
            self._due_at = time.monotonic() + pause_s
            self._tell("unstartable", pause_s=pause_s, reason=str(error))
        else:
            self.restarts += 1

    def _ask_probe(self) -> None:
        assert self._family is not None  # noqa: S101  a starting child has a process
        if self.spec.probe is not None and self.spec.probe(self._family.pid):
            self.note_ready()
        else:
            self._due_at = time.monotonic() + _PROBE_INTERVAL_S

    def _take_step(self) -> None:
        assert self._family is not None  # noqa: S101  a stopping child has a process
        if not self._steps_left:
            self.kill()
            return
        step = self._steps_left.pop(0)
        self._family.send(step.signal)
        self._due_at = time.monotonic() + step.wait_s

    def _end(self, code: int, *, again: bool = True) -> None:
        """Settle an end: wanted, or a death that a restart follows."""
        ran_s = time.monotonic() - self._started_at
        stopping = self.state == "stopping"
        if stopping or not again:
            took_s = time.monotonic() - self._stop_began_at if stopping else ran_s
            self._tell("stopped", took_s=took_s, exit_code=code)
            self.state, self._due_at = "ended", None
        else:
            if self.state == "starting":
                self.deaths_before_ready += 1
            self._failures = self.spec.restarts.failures_after(self._failures, ran_s)
            pause_s = self.spec.restarts.pause_s(self._failures)
            self._tell("died", exit_code=code, pause_s=pause_s)
            self.state, self._due_at = "pausing", time.monotonic() + pause_s
        self._family = None

    def _tell(
        self,
        kind: EventKind,
        *,
        took_s: float | None = None,
        exit_code: int | None = None,
        pause_s: float | None = None,
        reason: str = "",
    ) -> None:
        ran_s = time.monotonic() - self._started_at
        self._listener(
            CrewEvent(
                kind=kind,
                name=self.spec.name,
                pid=self.pid or 0,
                took_s=ran_s if took_s is None else took_s,
                exit_code=exit_code,
                pause_s=pause_s,
                reason=reason,
            )
        )
