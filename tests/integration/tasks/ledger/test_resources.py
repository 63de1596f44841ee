"""What one run at a time may use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from sqlalchemy import text

from tasks.errors import LeaseLostError
from tasks.ledger.attempts import RunAttempt
from tasks.ledger.events import Event
from tasks.ledger.operations import list_dead_letters
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store import events, leases, runs
from tasks.transactions import begin_write
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID

if TYPE_CHECKING:
    from collections.abc import Collection

    from tasks.ledger.store.runs import Claim
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench

VAULT = ("vault",)


def claim(bench: Bench, job_id: str, *names: str) -> Claim:
    return runs.claim(
        bench.runtime.engine,
        bench.wanted(job_id),
        now=bench.clock(),
        worker=f"worker of {job_id}",
        lease=bench.runtime.ledger.lease,
        max_attempts=4,
        exclusive=names,
    )


def attempt_of(bench: Bench, taken: Claim) -> RunAttempt:
    assert taken.run is not None
    return RunAttempt(taken.run, bench.runtime, fences=taken.fences)


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def never(_message: object, _runtime: Runtime) -> NoReturn:
    pytest.fail("this run must not be worked on")


def vault(_message: object) -> Collection[str]:
    return VAULT


def test_jobs_that_need_the_same_do_not_overlap(bench: Bench) -> None:
    """The second waits, which costs it no attempt, and runs once the first has its outcome."""
    seen: list[Any] = []

    def work(_message: object, _runtime: Runtime) -> None:
        outcome = bench.deliver(never, job_id=OTHER_ID, exclusive=vault)
        waiting = bench.run(OTHER_ID)
        seen.append((outcome.verdict, outcome.publish_again_in, waiting.state, waiting.attempt))

    assert bench.deliver(work, exclusive=vault).verdict == "succeeded"
    assert seen == [("deferred", timedelta(seconds=15), State.QUEUED, 0)]
    assert bench.deliver(done, job_id=OTHER_ID, exclusive=vault).verdict == "succeeded"
    assert bench.run(OTHER_ID).attempt == 1
    assert leases.held_now(bench.runtime.engine) == []


def test_all_or_none(bench: Bench) -> None:
    """A run that cannot have everything takes nothing, and so keeps nobody else from it."""
    assert claim(bench, JOB_ID, "vault").taken
    assert not claim(bench, OTHER_ID, "disk", "vault").taken
    assert [one.resource for one in leases.held_now(bench.runtime.engine)] == ["vault"]


def test_waiting_is_told_once(bench: Bench) -> None:
    """A run that waits for hours has one event of it, and one message that comes back."""
    claim(bench, JOB_ID, *VAULT)
    first = claim(bench, OTHER_ID, *VAULT)
    assert first.again_at == bench.clock() + timedelta(seconds=15)
    assert claim(bench, OTHER_ID, *VAULT).again_at is None
    bench.clock.advance(seconds=15)
    assert claim(bench, OTHER_ID, *VAULT).again_at is not None
    timeline = events.timeline(bench.runtime.engine, OTHER_ID)
    assert [one.event for one in timeline] == [Event.QUEUED, Event.DEFERRED]
    assert timeline[1].detail == f"vault is in use by run {JOB_ID} on worker of {JOB_ID}"


def test_one_of_many_gets_it(bench: Bench) -> None:
    """Of runs that ask at once, in whatever order of names, one gets both things and nobody waits for ever."""
    ids = [f"{JOB_ID[:-2]}{number:02x}" for number in range(6)]
    ready = threading.Barrier(len(ids))

    def take(job_id: str) -> Claim:
        ready.wait(timeout=10)
        return claim(bench, job_id, *(("a", "b") if int(job_id[-1], 16) % 2 else ("b", "a")))

    for fence in (1, 2, 3):
        with ThreadPoolExecutor(len(ids)) as pool:
            claims = list(pool.map(take, ids))
        [won] = [one for one in claims if one.taken]
        assert won.run is not None
        assert dict(won.fences) == {"a": fence, "b": fence}
        ids.remove(won.run.id)
        ready = threading.Barrier(len(ids))
        runs.succeed(bench.runtime.engine, won.run, result=None, now=bench.clock())
        bench.clock.advance(seconds=15)


def test_silent_holder_loses_it(bench: Bench) -> None:
    """A resource is taken from a holder whose lease is over, with the next fence, and that one can do no more with it.

    Its run is not taken over: nobody but the resource itself can tell that it was lost.
    """
    old = attempt_of(bench, claim(bench, JOB_ID, *VAULT))
    bench.clock.advance(seconds=61)
    new = claim(bench, OTHER_ID, *VAULT)
    assert dict(new.fences) == {"vault": 2}
    assert not old._renew()
    with pytest.raises(LeaseLostError):
        old.checkpoint()
    with pytest.raises(LeaseLostError), begin_write(bench.runtime.engine) as connection:
        old.guard(connection)
    with pytest.raises(LeaseLostError), begin_write(bench.runtime.engine) as connection:
        old.complete_in(connection, "late")
    assert attempt_of(bench, new)._renew()


def test_it_is_renewed_with_the_run(bench: Bench) -> None:
    """As long as the work goes on, nobody else gets what it uses."""
    attempt = attempt_of(bench, claim(bench, JOB_ID, *VAULT))
    for _ in range(3):
        bench.clock.advance(seconds=50)
        assert attempt._renew()
        assert not claim(bench, OTHER_ID, *VAULT).taken


def test_twin_takes_it_over_with_the_run(bench: Bench) -> None:
    """A twin that takes the run of a silent worker has the resource too, with a fence of its own."""
    old = attempt_of(bench, claim(bench, JOB_ID, *VAULT))
    bench.clock.advance(seconds=61)
    assert dict(claim(bench, JOB_ID, *VAULT).fences) == {"vault": 2}
    assert not old._renew()


@pytest.mark.parametrize("outcome", ["succeed", "fail", "retry", "release"])
def test_it_is_free_with_the_outcome(bench: Bench, outcome: str) -> None:
    """However an attempt ends, what it used is free in the same transaction."""
    engine, taken = bench.runtime.engine, claim(bench, JOB_ID, *VAULT)
    assert taken.run is not None
    if outcome == "succeed":
        runs.succeed(engine, taken.run, result=None, now=bench.clock())
    elif outcome == "release":
        bench.clock.advance(seconds=61)
        runs.release_expired(engine, now=bench.clock(), default_max_attempts=4)
    else:
        failure = runs.Failure(reason="", permanent=outcome == "fail")
        runs.fail(engine, taken.run, failure, now=bench.clock(), published_at=None, republish_at=bench.clock())
    assert leases.held_now(engine) == []
    assert dict(claim(bench, OTHER_ID, *VAULT).fences) == {"vault": 2}


def test_taken_midway(bench: Bench) -> None:
    """A job may take what it needs when it needs it: a busy thing puts the run back, and the attempt does not count."""
    holder = attempt_of(bench, claim(bench, JOB_ID))
    assert holder.take("vault") == holder.take("vault") == 1

    def work(_message: object, runtime: Runtime) -> NoReturn:
        runtime.attempt.take("vault")
        pytest.fail("two have the vault")

    assert bench.deliver(work, job_id=OTHER_ID).verdict == "deferred"
    waiting = bench.run(OTHER_ID)
    assert (waiting.state, waiting.attempt, waiting.fence) == (State.QUEUED, 0, 1)
    assert holder._renew()


def test_orphan_is_freed(bench: Bench) -> None:
    """A hold that a mended or restored database left behind is over with the next reconcile."""
    engine = bench.runtime.engine
    claim(bench, JOB_ID, *VAULT)
    with begin_write(engine) as connection:
        connection.execute(text("UPDATE job_runs SET state = 'failed'"))
    assert reconcile(bench.runtime).resources_freed == 1
    assert claim(bench, OTHER_ID, *VAULT).taken


def test_message_that_names_nothing_is_a_dead_letter(quick_bench: Bench) -> None:
    """A job that cannot say what it needs does not come back for ever."""

    def broken(message: Any) -> Collection[str]:
        return (message.no_such_field,)

    assert quick_bench.deliver(never, exclusive=broken).verdict == "dead_lettered"
    [letter] = list_dead_letters(quick_bench.runtime)
    assert "no_such_field" in letter.reason


def test_watched_run_tells_the_switch(bench: Bench) -> None:
    """A ping is written for each start and outcome of a watched slot, and for no other run."""
    watched = replace(bench.wanted(), entry="nightly", watched=True)
    runs.insert(bench.runtime.engine, [watched], now=bench.clock(), republish_after=timedelta(0))
    bench.deliver(done)
    bench.deliver(done, job_id=OTHER_ID)
    with begin_write(bench.runtime.engine) as connection:
        rows = connection.execute(text("SELECT entry, run_id, signal FROM pings ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("nightly", JOB_ID, "start"), ("nightly", JOB_ID, "success")]
