"""Small programs that stand in for members of the crew, and a crew of them."""

from __future__ import annotations

import os
import sys
from signal import SIGTERM
from typing import TYPE_CHECKING

from workers.supervisor.child import ChildSpec, StopStep
from workers.supervisor.restarts import RestartPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

READY = "from workers.supervisor.notify import tell_ready; tell_ready()"
PATIENT = f"import signal; {READY}; signal.pause()"
"""Says it is ready and runs until a signal ends it."""
STUBBORN = (
    f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}; [signal.pause() for _ in iter(int, 1)]"
)
"""Ends on SIGKILL only."""
FAMILY = f"import os, signal; os.fork(); print(os.getpid(), flush=True); {PATIENT}"
"""Has a child of its own, and prints both ids."""
TELLING = (
    "import os, signal, sys; "
    "signal.signal(signal.SIGTERM, lambda *_: (print('end', sys.argv[1], flush=True), os._exit(0))); " + PATIENT
)
"""Prints its argument when it is asked to end."""

FAST = RestartPolicy(first_pause_s=0.02, longest_pause_s=0.1)


def script_spec(
    directory: Path,
    *,
    name: str = "member",
    code: str = PATIENT,
    env: Mapping[str, str] | None = None,
    wait_s: float = 5.0,
    argument: str = "",
    log: Path | None = None,
) -> ChildSpec:
    """Describe a Python program given as text."""
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-c", code, argument),
        env={**os.environ, **(env or {})},
        cwd=directory,
        log=log or directory / f"{name}.log",
        stop_steps=(StopStep(signal=SIGTERM, wait_s=wait_s),),
        restarts=FAST,
    )
