"""A process that does a drill as a job, and waits to be killed where it is told to."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightcrew import _redis, wire
from nightcrew.messages import DrillRestore
from tasks.backups import jobs
from tasks.job import Delivery, definition_of, run_job
from tasks.ledger import attempts
from tasks.runtime import NoAttempt
from tests.integration.tasks.backups.crew import options_in, runtime_of
from tests.support.databases import opened_engine

if TYPE_CHECKING:
    from collections.abc import Callable

assert jobs.__doc__  # imported so that the job is registered

STEPS: Final = (
    "choose point",
    "fetch",
    "compare hashes",
    "put together",
    "put together: read broker",
    "compare",
    "damage copies: 2 of",
    "record",
)
"""What its progress says first at each place where it can be killed."""

HERE: Final = "it is there"
_OF_A_POINT: Final = re.compile(r"[0-9a-f]{12}: ")


def waiting_at(step: str, report: Callable[..., None]) -> Callable[..., None]:
    """Give a report that waits for the end when the work is there."""

    def wait(attempt: attempts.RunAttempt, share: float, text: str = "") -> None:
        report(attempt, share, text)
        told = text.partition(": ")[2] if _OF_A_POINT.match(text) else text
        if told.startswith(step):
            print(HERE, flush=True)  # noqa: T201  the test reads it
            signal.pause()

    return wait


def main(database_url: str, redis_url: str, directory: Path, job_id: str, step: str) -> None:
    """Do the drill of a message."""
    attempts.RunAttempt.report = waiting_at(step, attempts.RunAttempt.report)  # type: ignore[method-assign]
    with opened_engine(database_url) as engine:
        runtime = runtime_of(engine, _redis.connect(redis_url, 5.0), options_in(directory), NoAttempt())
        delivery = Delivery(id=job_id, payload=DrillRestore().to_payload(), headers={wire.HEADER_SCHEMA: 1})
        run_job(definition_of(DrillRestore.kind), delivery, runtime)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5])
