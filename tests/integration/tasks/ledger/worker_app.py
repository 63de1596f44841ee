"""A bare Celery worker with a ledger; what the service adds on top (settings, transport, lifecycle) is not under test.

Reads the addresses of its servers from `TEST_BROKER_URL` and `TEST_DATABASE_URL`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, NoReturn

from celery import Celery
from kombu import Queue

from nightcrew._redis import connect, kombu_url
from nightcrew.messages import Message
from tasks import runtime
from tasks.errors import PermanentError, TransientError
from tasks.job import job
from tasks.ledger.retries import RetryPolicy
from workers.database import create_engine
from workers.publisher import CrewPublisher

if TYPE_CHECKING:
    from tasks.runtime import Runtime

_BROKER_URL = os.environ["TEST_BROKER_URL"]
_AT_ONCE = RetryPolicy(max_attempts=3, first_delay=timedelta(0), longest_delay=timedelta(0))


@dataclass(frozen=True, kw_only=True)
class Stumble(Message):
    kind: ClassVar[str] = "test.stumble"
    queue: ClassVar[str] = "nightcrew.ledger"


@dataclass(frozen=True, kw_only=True)
class Refuse(Message):
    kind: ClassVar[str] = "test.refuse"
    queue: ClassVar[str] = "nightcrew.ledger"


_stumbles: list[None] = []


@job(Stumble, retry=_AT_ONCE)
def stumble_once(_message: Stumble, _runtime: Runtime) -> str:
    """Fail for the moment, and succeed when tried again."""
    _stumbles.append(None)
    if len(_stumbles) == 1:
        msg = "the first time always fails"
        raise TransientError(msg)
    return "done"


@job(Refuse, retry=_AT_ONCE)
def refuse(_message: Refuse, _runtime: Runtime) -> NoReturn:
    """Fail for good."""
    msg = "never"
    raise PermanentError(msg)


app = Celery("test", broker=kombu_url(_BROKER_URL), include=["tasks.ledger.jobs"])
app.conf.update(
    task_queues=[Queue("nightcrew.ledger")],
    task_create_missing_queues=False,
    task_default_queue="nightcrew.ledger",  # Celery looks it up before it publishes anything, a retry included
    broker_transport_options={"unacked_key": "unacked.ledger"},
    worker_prefetch_multiplier=1,
)

runtime.install(
    runtime.Runtime(
        engine=create_engine(os.environ["TEST_DATABASE_URL"]),
        redis=connect(_BROKER_URL, 5.0),
        publisher=CrewPublisher(_BROKER_URL, timeout_s=5.0),
        timetable={},
        worker_name="ledger@test",
    )
)
