"""A worker with jobs that take many steps and may be called off between them.

Reads the addresses of its servers as `worker_app` does, and its name from `TEST_WORKER_NAME`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from nightcrew.messages import Message
from tasks import runtime as runtimes
from tasks.job import job
from tasks.runtime import LedgerOptions
from tests.integration.tasks.ledger.worker_app import app
from tests.support.waiting import pause

if TYPE_CHECKING:
    from tasks.runtime import Runtime

__all__ = ["app"]

LEASE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class TakeSteps(Message):
    kind: ClassVar[str] = "test.take_steps"
    queue: ClassVar[str] = "nightcrew.ledger"
    steps: int = 10
    step_s: float = 0.1
    children: int = 0


@job(TakeSteps)
def take_steps(message: TakeSteps, runtime: Runtime) -> int:
    """Go on step by step, and ask after each whether to."""
    for number in range(message.children):
        runtime.attempt.spawn(TakeSteps(steps=1), key=str(number))
    for step in range(message.steps):
        runtime.attempt.report(step / message.steps, f"step {step} of {message.steps}")
        pause(message.step_s)
    return message.steps


runtimes.install(
    replace(
        runtimes.current(),
        worker_name=os.environ["TEST_WORKER_NAME"],
        ledger=LedgerOptions(lease=timedelta(seconds=LEASE_S)),
    )
)
