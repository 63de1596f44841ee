"""What the workers of the chaos tests do besides the crew's own jobs."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from tasks.job import job
from tasks.ledger.retries import RetryPolicy
from tasks.runtime import Runtime  # noqa: TC001  the jobs of all slices are read by their signatures
from tasks.transactions import begin_write
from tests.chaos.deeds import DEEDS, USES, DoDeed, KillWorker, UseResource, WorkLong
from tests.support.waiting import pause

RESOURCE: Final = "chaos:resource"

# Kills are the rule here: nothing may run out of attempts that is not meant to.
STUBBORN: Final = RetryPolicy(max_attempts=100, first_delay=timedelta(seconds=1), longest_delay=timedelta(seconds=2))
POISON: Final = RetryPolicy(max_attempts=2, first_delay=timedelta(seconds=1), longest_delay=timedelta(seconds=1))

_STEP_S: Final = 0.05


@job(DoDeed, retry=STUBBORN)
def do_deed(_message: DoDeed, runtime: Runtime) -> None:
    """Leave a trace and the outcome together."""
    _leave_trace(runtime)


@job(UseResource, retry=STUBBORN, exclusive=lambda _message: (RESOURCE,))
def use_resource(message: UseResource, runtime: Runtime) -> None:
    """Note when the use began, and when it ended."""
    attempt = runtime.attempt
    use = {"run_id": attempt.run_id, "resource_fence": attempt.take(RESOURCE), "began_ns": time.monotonic_ns()}
    with begin_write(runtime.engine) as connection:
        attempt.guard(connection)
        (number,) = connection.execute(sa.insert(USES).values(use).returning(USES.c.id)).one()
    pause(message.seconds)
    with begin_write(runtime.engine) as connection:
        ended = sa.update(USES).where(USES.c.id == number).values(ended_ns=time.monotonic_ns())
        connection.execute(ended)
        attempt.complete_in(connection, None)


@job(KillWorker, retry=POISON)
def kill_worker(_message: KillWorker, _runtime: Runtime) -> None:
    """Take the worker along."""
    os.kill(os.getpid(), signal.SIGKILL)


@job(WorkLong, retry=STUBBORN)
def work_long(message: WorkLong, runtime: Runtime) -> None:
    """Go from checkpoint to checkpoint."""
    steps = max(1, round(message.seconds / _STEP_S))
    for step in range(steps):
        runtime.attempt.report(step / steps, f"step {step} of {steps}")
        pause(_STEP_S)
    _leave_trace(runtime)


def _leave_trace(runtime: Runtime) -> None:
    attempt = runtime.attempt
    trace: dict[str, Any] = {"run_id": attempt.run_id, "fence": attempt.fence}
    with begin_write(runtime.engine) as connection:
        connection.execute(sa.insert(DEEDS).values(trace))
        attempt.complete_in(connection, None)
