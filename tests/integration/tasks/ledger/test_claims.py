"""One holder at a time, attempts bounded, and no effect without the current fence."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from tasks.ledger.states import Move, State
from tasks.ledger.store import runs
from tasks.transactions import begin_write
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID

if TYPE_CHECKING:
    from tasks.ledger.store.runs import Claim
    from tests.integration.tasks.ledger.conftest import Bench

LEASE = timedelta(seconds=60)


def claim(bench: Bench, *, worker: str = "one", job_id: str = JOB_ID, limit: int = 4, key: str | None = None) -> Claim:
    wanted = bench.wanted(job_id, dedup_key=key)
    return runs.claim(bench.runtime.engine, wanted, now=bench.clock(), worker=worker, lease=LEASE, max_attempts=limit)


def race(bench: Bench, count: int) -> list[Claim]:
    ready = threading.Barrier(count)

    def take(number: int) -> Claim:
        ready.wait(timeout=10)
        return claim(bench, worker=f"worker-{number}")

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(take, range(count)))


def test_one_of_many_claimers_wins(bench: Bench) -> None:
    """Of workers that get the same message at once, one gets the run: unknown before, and known."""
    for fence in (1, 2):
        assert [won.taken for won in race(bench, 8)].count(True) == 1
        assert (bench.run().fence, bench.run().attempt) == (fence, fence)
        again = bench.clock() + timedelta(minutes=1)
        failure = runs.Failure(reason="disk is full")
        runs.fail(bench.runtime.engine, bench.run(), failure, now=again, published_at=None, republish_at=again)


def test_expired_lease_is_taken_over(bench: Bench) -> None:
    """A twin takes a run whose worker fell silent, and the old worker can neither renew nor record any more."""
    engine = bench.runtime.engine
    old = claim(bench).run
    assert old is not None
    bench.clock.advance(seconds=61)
    new = claim(bench, worker="two")
    assert new.taken
    assert new.run is not None
    assert (new.run.fence, new.run.attempt, new.run.worker) == (2, 2, "two")
    assert not runs.renew(engine, old, now=bench.clock(), lease=LEASE)
    assert runs.succeed(engine, old, result="old", now=bench.clock()) is None
    assert runs.end(engine, old, move=Move(to=State.FAILED, reason=""), now=bench.clock()) is None
    assert runs.succeed(engine, new.run, result="new", now=bench.clock()) is not None
    assert bench.run().result == "new"


def test_renewed_lease_is_kept(bench: Bench) -> None:
    """A lease that is renewed is not taken from its worker, however long the work lasts."""
    held = claim(bench).run
    assert held is not None
    bench.clock.advance(seconds=50)
    assert runs.renew(bench.runtime.engine, held, now=bench.clock(), lease=LEASE)
    bench.clock.advance(seconds=50)
    assert not claim(bench, worker="two").taken
    assert runs.release_expired(bench.runtime.engine, now=bench.clock(), default_max_attempts=4) == []


def test_lease_renewed_at_the_last_moment_is_kept(bench: Bench) -> None:
    """A reconciler that saw a lease expired leaves the run alone when it was renewed before the reconciler wrote."""
    held = claim(bench).run
    assert held is not None
    bench.clock.advance(seconds=61)
    assert runs.renew(bench.runtime.engine, held, now=bench.clock(), lease=LEASE)
    move = Move(to=State.QUEUED, reason="seen expired")
    with begin_write(bench.runtime.engine) as connection:
        assert runs._release(connection, held, move, now=bench.clock()) is None
    assert bench.run().state is State.RUNNING


def test_attempts_are_bounded(bench: Bench) -> None:
    """A run that always takes its worker with it is dead after its attempts, and stays so."""
    for attempt in (1, 2, 3):
        taken = claim(bench, limit=3)
        assert taken.taken
        assert bench.run().attempt == attempt
        bench.clock.advance(seconds=61)
    buried = claim(bench, limit=3)
    assert not buried.taken
    assert bench.run().state is State.DEAD
    assert "3 of 3 attempts" in (bench.run().error or "")
    assert not claim(bench, limit=99).taken


def test_dedup_key_admits_one_run(bench: Bench) -> None:
    """A second run with the key of another is never made, and its bearer learns which one has it."""
    assert claim(bench, key="invoice-7").taken
    second = claim(bench, job_id=OTHER_ID, key="invoice-7")
    assert (second.taken, second.run) == (False, None)
    assert JOB_ID in second.reason
