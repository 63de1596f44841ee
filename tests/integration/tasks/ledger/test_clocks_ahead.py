"""A clock that ran ahead puts nothing off for as long as it did."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tasks.errors import TransientError
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store import mirror, runs
from tasks.runtime import LedgerOptions
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID, make_bench

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Engine

    from tasks.ledger.store.runs import Claim
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench
    from tests.support.redis import RedisServer

_AHEAD = timedelta(hours=2)


@pytest.fixture
def now(bench: Bench) -> datetime:
    """Give the true time, by which the database goes as well."""
    bench.clock.now = datetime.now(UTC)
    return bench.clock.now


@pytest.fixture
def shared_bench(pg_engine: Engine, redis_server: RedisServer) -> Bench:
    """Give a ledger on the database that several hosts share, at the true time."""
    bench = make_bench(pg_engine, redis_server)
    bench.clock.now = datetime.now(UTC)
    return bench


def claim(
    bench: Bench, job_id: str = JOB_ID, *, worker: str = "ledger@ahead", exclusive: Collection[str] = ()
) -> Claim:
    return runs.claim(
        bench.runtime.engine,
        bench.wanted(job_id),
        now=bench.clock(),
        worker=worker,
        lease=bench.runtime.ledger.lease,
        max_attempts=4,
        exclusive=exclusive,
    )


def test_a_dead_workers_lease_ends_although_its_clock_ran_ahead(bench: Bench, now: datetime) -> None:
    """One lease after the first reconcile by the right time, not hours later."""
    lease = timedelta(seconds=30)
    bench.runtime = replace(bench.runtime, ledger=LedgerOptions(lease=lease))
    bench.clock.now = now + _AHEAD
    claim(bench)
    bench.clock.now = now - lease  # so that the lease has ended by the clock of the database, too
    assert reconcile(bench.runtime).pulled_back == 1
    assert bench.run().lease_until == now
    bench.clock.advance(seconds=bench.runtime.ledger.lease.total_seconds() / 2)
    assert reconcile(bench.runtime).requeued == 0
    bench.clock.advance(seconds=bench.runtime.ledger.lease.total_seconds() / 2)
    assert reconcile(bench.runtime).requeued == 1


def test_a_retry_is_published_although_a_clock_that_ran_ahead_put_it_off(bench: Bench, now: datetime) -> None:
    """Its message may have got lost: it is published at once, and once."""

    def fail(_message: Any, _runtime: Runtime) -> None:
        msg = "the world is in the way"
        raise TransientError(msg)

    bench.clock.now = now + _AHEAD
    bench.deliver(fail)
    bench.clock.now = now
    report = reconcile(bench.runtime)
    assert (report.pulled_back, report.republished) == (1, 1)
    assert bench.run().state is State.QUEUED
    report = reconcile(bench.runtime)
    assert (report.pulled_back, report.republished) == (0, 0)


def test_a_clock_that_runs_behind_takes_nobody_for_ahead(bench: Bench, now: datetime) -> None:
    """The database knows better: the lease of a worker whose clock is right stays as it is."""
    claim(bench)
    lease_until = bench.run().lease_until
    bench.clock.now = now - _AHEAD
    assert reconcile(bench.runtime).pulled_back == 0
    assert bench.run().lease_until == lease_until


def test_the_mirror_is_completed_although_a_clock_that_ran_ahead_says_it_is(bench: Bench, now: datetime) -> None:
    """What changes after that clock is right again reaches apps by the reconcile."""
    mirror.set_complete_until(bench.redis, now + _AHEAD)
    claim(bench)
    reconcile(bench.runtime)
    assert bench.mirror()["state"] == "running"


def test_a_clock_ahead_takes_no_run_from_a_worker_that_lives(shared_bench: Bench, log: list[Any]) -> None:
    """Neither a reconcile nor a second message takes over a lease that lasts by the clock all share; it is told of."""
    healthy = claim(shared_bench, worker="ledger@right").run
    shared_bench.clock.now += _AHEAD
    assert reconcile(shared_bench.runtime).requeued == 0
    assert not claim(shared_bench).taken
    assert shared_bench.run() == healthy
    assert [one["worker"] for one in log if one["event"] == "ledger.clock_deviated"] == ["ledger@test"]


def test_a_clock_ahead_takes_no_resource_from_a_worker_that_lives(shared_bench: Bench) -> None:
    """A run that needs it waits, and asks again later by its own clock."""
    assert claim(shared_bench, worker="ledger@right", exclusive=["vault"]).taken
    shared_bench.clock.now += _AHEAD
    second = claim(shared_bench, OTHER_ID, exclusive=["vault"])
    assert not second.taken
    assert second.again_at is not None
    assert second.again_at > shared_bench.clock()


def test_a_clock_ahead_misses_no_run_before_its_time(shared_bench: Bench) -> None:
    """A run that may begin for another hour does so, whoever looks at it first."""
    start_before = shared_bench.clock() + timedelta(hours=1)
    engine, later = shared_bench.runtime.engine, timedelta(minutes=5)
    wanted = replace(shared_bench.wanted(), start_before=start_before)
    runs.insert(engine, [wanted], now=shared_bench.clock(), republish_after=later)
    shared_bench.clock.now += _AHEAD
    assert reconcile(shared_bench.runtime).missed == 0
    assert claim(shared_bench).taken
