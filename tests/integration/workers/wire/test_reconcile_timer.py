"""The ledger worker reconciles by itself when beat does not ask for it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import tasks.ledger.jobs  # noqa: F401 - declares the job that beat asks for
from nightcrew import Nightcrew
from nightcrew.messages import ReconcileLedger, RunCanary
from schedules.timetable import ENTRIES, EVERY_ENTRY
from tasks.job import Delivery, definition_of, run_job
from tasks.ledger.firing import fire_slot
from tasks.ledger.store import queries, slots
from tasks.ledger.walking import walk_timetable
from tests.support import databases, wait_until
from workers.lifecycle import build_runtime, close_runtime
from workers.reconcile_timer import PATIENCE, ReconcileTimer
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.runtime import Runtime
    from tests.support.redis import RedisServer

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = PATIENCE + timedelta(seconds=1)


@dataclasses.dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runtime(own_redis_server: RedisServer, tmp_path: Path, clock: Clock) -> Iterator[Runtime]:
    databases.migrate_database(f"sqlite:///{tmp_path / 'nightcrew.db'}")
    settings = load_settings(tmp_path, env={})
    made = build_runtime(settings, broker_url=own_redis_server.url, worker_name="ledger@test")
    yield dataclasses.replace(made, clock=clock)
    close_runtime(made)


def reconcile_as_beat_asks(runtime: Runtime) -> None:
    run = fire_slot(EVERY_ENTRY["ledger-reconcile"], runtime)
    assert run is not None
    delivery = Delivery(id=run.id, payload={}, headers={"nightcrew_schema": 1})
    assert run_job(definition_of(ReconcileLedger.kind), delivery, runtime).verdict == "succeeded"


def test_it_waits_for_beat_first(runtime: Runtime, clock: Clock) -> None:
    """Just started, it cannot know yet that nobody asks."""
    timer = ReconcileTimer(runtime)
    clock.now += PATIENCE
    assert timer.reconcile_if_overdue() is False


def test_it_leaves_the_work_to_beat(runtime: Runtime, clock: Clock) -> None:
    """As long as reconciles of the timetable end well it does nothing."""
    timer = ReconcileTimer(runtime)
    for _ in range(3):
        clock.now += timedelta(seconds=60)
        reconcile_as_beat_asks(runtime)
    clock.now += PATIENCE
    assert timer.reconcile_if_overdue() is False


def test_it_steps_in_when_beat_is_silent(runtime: Runtime, clock: Clock, own_redis_server: RedisServer) -> None:
    """What an app wants is taken in, and the next look comes after as long a wait again."""
    timer = ReconcileTimer(runtime)
    with Nightcrew(own_redis_server.url) as crew:
        job = crew.enqueue(RunCanary())
    clock.now += LATE
    assert timer.reconcile_if_overdue() is True
    assert queries.exists(runtime.engine, job.id)
    assert timer.reconcile_if_overdue() is False
    clock.now += LATE
    assert timer.reconcile_if_overdue() is True


def test_a_reconcile_that_still_waits_is_no_reason(runtime: Runtime, clock: Clock) -> None:
    """The one before it ended well a moment ago: that the next one has not begun says nothing yet."""
    timer = ReconcileTimer(runtime)
    clock.now += timedelta(seconds=85)
    reconcile_as_beat_asks(runtime)
    clock.now += timedelta(seconds=35)
    assert fire_slot(EVERY_ENTRY["ledger-reconcile"], runtime) is not None
    assert timer.reconcile_if_overdue() is False


def test_without_beat_every_slot_is_fired(runtime: Runtime, clock: Clock) -> None:
    """The timetable is walked by the timer: each slot of half an hour has its run, and the newest ones fire."""
    timer = ReconcileTimer(runtime)
    reconcile_as_beat_asks(runtime)
    walk_timetable(runtime)
    begin = clock.now
    for _ in range(2 * 30):
        clock.now += timedelta(seconds=30)
        timer.reconcile_if_overdue()
    for entry in ENTRIES:
        found = slots.history(runtime.engine, entry.name, limit=100)
        expected = list(entry.slots_between(begin, begin + timedelta(minutes=28)))
        assert set(expected) <= {run.slot_at for run in found}
        assert all(run.queued_at - run.slot_at <= LATE + timedelta(seconds=30) for run in found if run.slot_at)


def test_it_outlives_a_broker_that_is_away(runtime: Runtime, clock: Clock, own_redis_server: RedisServer) -> None:
    """It is the last net: whatever went wrong, it looks again."""
    timer = ReconcileTimer(runtime, interval_s=0.02)
    with Nightcrew(own_redis_server.url) as crew:
        job = crew.enqueue(RunCanary())
    own_redis_server.kill9()
    clock.now += LATE
    timer.start()
    own_redis_server.restart()
    wait_until(lambda: queries.exists(runtime.engine, job.id), timeout_s=20, what="the reconcile")
    timer.stop()
