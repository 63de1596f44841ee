"""Apps of three releases speak to a crew that is restarted meanwhile: no word of theirs is lost."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
import sqlalchemy as sa

from nightcrew import wire
from nightcrew._redis import connect
from nightcrew._uuid7 import uuid7
from nightcrew.messages.base import SCHEMA_VERSION
from tasks.ledger.tables import DeadLetter
from tasks.transactions import begin_read
from tests.chaos.deeds import DoDeed
from tests.chaos.working import RECONCILE_S, WorkingCrew, working_crew
from tests.support import wait_until
from tests.support.processes import is_gone

if TYPE_CHECKING:
    from nightcrew.messages import Message

_MEMBERS = ("worker-ledger", "worker-usage", "beat")
_JOBS = 30
_PATIENCE_S = 2 * RECONCILE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenOtherwise:
    """A deed as another release writes it."""

    kind: ClassVar[str] = DoDeed.kind
    queue: ClassVar[str] = DoDeed.queue

    payload: tuple[tuple[str, object], ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Give the fields of that release."""
        return dict(self.payload)


@pytest.mark.chaos
def test_a_rolling_restart_between_releases_loses_nothing() -> None:
    """An older app leaves a field out, a newer one adds one; a form that is too new is kept for an operator."""
    older = cast("Message", SpokenOtherwise())
    newer = cast("Message", SpokenOtherwise(payload=(("padding", "x"), ("colour", "green"))))
    with working_crew() as crew:
        too_new = ask_in_the_future(crew)
        for member in _MEMBERS:
            crew.ask([older, DoDeed(), newer] * _JOBS)
            restart(crew, member)
        crew.wait_until_done(timeout_s=_PATIENCE_S)
        crew.assert_exact()
        wait_until(lambda: kept_letters(crew), timeout_s=_PATIENCE_S, what="the dead letter", interval_s=0.2)
        assert kept_letters(crew) == [too_new]


def ask_in_the_future(crew: WorkingCrew) -> str:
    """Leave an intent in a form that this release does not know, and give its id."""
    job_id = str(uuid7())
    intent: dict[Any, Any] = {
        "v": SCHEMA_VERSION + 1,
        "id": job_id,
        "kind": DoDeed.kind,
        "payload": "{}",
        "dedup_key": "",
        "correlation_id": job_id,
        "enqueued_at": time.time(),
    }
    with connect(crew.url, timeout_s=5.0) as redis:
        redis.xadd(wire.INTENTS, intent)
    return job_id


def restart(crew: WorkingCrew, member: str) -> None:
    """End a member in order, as a deployment does, and wait for the next one to take work."""
    record = crew.process.record()
    assert record is not None
    pid = record.children[member]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: is_gone(pid), timeout_s=30, what=f"the end of {member}")

    def is_back() -> bool:
        found = crew.process.record()
        return found is not None and found.complete and found.children.get(member) not in {None, pid}

    wait_until(is_back, timeout_s=60, what=f"another {member}")


def kept_letters(crew: WorkingCrew) -> list[str | None]:
    """Give the jobs of the dead letters."""
    with begin_read(crew.engine) as connection:
        return list(connection.scalars(sa.select(DeadLetter.job_id)))
