"""A clock that ran ahead puts nothing off for as long as it did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tasks.errors import TransientError
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store import mirror, runs

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench

_AHEAD = timedelta(hours=2)


@pytest.fixture
def now(bench: Bench) -> datetime:
    """Give the true time, by which the database goes as well."""
    bench.clock.now = datetime.now(UTC)
    return bench.clock.now


def claim(bench: Bench) -> None:
    runs.claim(
        bench.runtime.engine,
        bench.wanted(),
        now=bench.clock(),
        worker="ledger@ahead",
        lease=bench.runtime.ledger.lease,
        max_attempts=4,
    )


def test_a_dead_workers_lease_ends_although_its_clock_ran_ahead(bench: Bench, now: datetime) -> None:
    """One lease after the first reconcile by the right time, not hours later."""
    bench.clock.now = now + _AHEAD
    claim(bench)
    bench.clock.now = now
    assert reconcile(bench.runtime).pulled_back == 1
    assert bench.run().lease_until == now + bench.runtime.ledger.lease
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
