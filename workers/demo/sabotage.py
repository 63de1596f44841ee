"""What goes wrong on purpose: a worker dies without a word, and its doorbells are lost."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from nightcrew.messages import DrainUsage
from workers.supervisor.errors import ChildStartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from workers.supervisor.crew_process import CrewProcess

WORKER: Final = "worker-usage"

_PATIENCE_S: Final = 60.0


def kill_worker(crew: CrewProcess) -> int:
    """Kill the worker that counts; give its process id."""
    record = crew.record()
    if record is None or (pid := record.children.get(WORKER)) is None:
        msg = f"{WORKER} does not run: see {crew.log}"
        raise ChildStartError(msg)
    os.kill(pid, signal.SIGKILL)
    return pid


def lose_doorbells(redis: Redis, unacked_key: str, *, ring: Callable[[], object]) -> int:
    """Throw away every doorbell there is, waiting or in the dead worker's hands; give their number.

    `ring` makes entries for which a bell rings.
    """
    deadline = time.monotonic() + _PATIENCE_S
    lost = 0
    while not lost and time.monotonic() < deadline:
        ring()
        with redis.pipeline(transaction=True) as pipe:
            pipe.llen(DrainUsage.queue)
            pipe.hlen(unacked_key)
            pipe.delete(DrainUsage.queue, unacked_key)
            waiting, unacked, _ = pipe.execute()
        lost = int(waiting) + int(unacked)
    return lost


def successor_of(crew: CrewProcess, killed_pid: int) -> int:
    """Wait until another process has taken the worker's place; give its process id.

    Raises:
        ChildStartError: nobody came.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        record = crew.record()
        if record is not None and WORKER in record.ready and record.children.get(WORKER) not in (None, killed_pid):
            return record.children[WORKER]
        time.sleep(0.02)
    msg = f"{WORKER} was not started again: see {crew.log}"
    raise ChildStartError(msg)
