"""What stands between the log and the counts may be lost: bells, queues, a worker's attention."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect
from nightcrew.messages import DrainUsage
from tests.chaos.counting import counting_crew
from tests.chaos.sabotage import Saboteur
from tests.chaos.uses import first_uses
from tests.support import wait_until
from tests.support.processes import is_gone
from workers.celery_config import unacked_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.counting import CountingCrew
    from tests.chaos.uses import Counts

_CALLS = 3_000
_WORKER = "worker-usage"
_PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def crew() -> Iterator[CountingCrew]:
    with counting_crew({}) as running:
        yield running


@pytest.fixture
def before(crew: CountingCrew) -> Counts:
    """Give the counts before the test."""
    return crew.counts()


def test_a_frozen_worker_goes_on_where_it_stopped(crew: CountingCrew, before: Counts, seed: int) -> None:
    """Nothing gets lost while it neither works nor ends (SIGSTOP)."""
    pid = worker_of(crew)
    os.kill(pid, signal.SIGSTOP)
    try:
        count(crew, seed)
        assert not crew.is_drained()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert_all_counted(crew, before, seed)
    assert worker_of(crew) == pid


@pytest.mark.long
def test_lost_doorbells_are_made_up_for_when_the_worker_starts(crew: CountingCrew, before: Counts, seed: int) -> None:
    """Queue and unacknowledged messages are gone, the bell says that it rings already, and the timetable is silent."""
    beat = crew.process.wait_ready().children["beat"]
    os.kill(beat, signal.SIGSTOP)
    try:
        os.kill(worker_of(crew), signal.SIGKILL)
        with connect(crew.url, timeout_s=5) as redis:
            redis.set(wire.usage_bell(0), "1")  # for ever: no producer rings again
            count(crew, seed)
            redis.delete(DrainUsage.queue, unacked_key("usage"), f"{unacked_key('usage')}:index")
        assert_all_counted(crew, before, seed)
    finally:
        os.kill(beat, signal.SIGCONT)


@pytest.mark.chaos
def test_the_timetable_makes_up_for_lost_doorbells(crew: CountingCrew, before: Counts, seed: int) -> None:
    """Nothing dies and nobody starts: the drain of the minute finds what no bell told."""
    pid = worker_of(crew)
    with connect(crew.url, timeout_s=5) as redis:
        redis.set(wire.usage_bell(0), "1")
    count(crew, seed)
    assert_all_counted(crew, before, seed)
    assert worker_of(crew) == pid


def test_what_was_flushed_survives_a_kill_of_the_broker(crew: CountingCrew, before: Counts, seed: int) -> None:
    """`flush()` has returned, so the server may be killed in that very moment."""
    saboteur = Saboteur(crew.process, random.Random(seed))
    for number in range(3):
        count(crew, seed + number)
        saboteur.kill("broker")
    saboteur.kill(_WORKER)  # the next one asks for a drain when it starts: no need to wait for the minute's
    saboteur.settle()
    assert_all_counted(crew, before, seed, seed + 1, seed + 2)


def count(crew: CountingCrew, seed: int) -> None:
    with Nightcrew(crew.url) as app:
        for use in first_uses(seed, _CALLS):
            app.usage.increment(use.key, context=use.context, accepted=use.accepted, amount=use.amount)
        app.usage.flush(timeout_s=_PATIENCE_S)


def assert_all_counted(crew: CountingCrew, before: Counts, *seeds: int) -> None:
    crew.wait_until_drained(timeout_s=_PATIENCE_S)
    crew.assert_counted(*(first_uses(seed, _CALLS) for seed in seeds), before=before)


def worker_of(crew: CountingCrew) -> int:
    """Give its process id once it takes work."""

    def ready() -> int | None:
        record = crew.process.record()
        if record is None or _WORKER not in record.ready or is_gone(record.children[_WORKER]):
            return None
        return record.children[_WORKER]

    return wait_until(ready, timeout_s=_PATIENCE_S, what="the worker")
