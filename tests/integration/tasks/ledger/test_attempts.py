"""What a job does with its hold on the run: checkpoints, effects, progress, children."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from sqlalchemy import text

from nightcrew.messages import RunCanary
from tasks.errors import CancelledError, LeaseLostError, PermanentError, TransientError
from tasks.ledger.attempts import LOOK_EVERY_S, REPORT_EVERY_S, RunAttempt
from tasks.ledger.events import Event
from tasks.ledger.reconciliation import reconcile, release_expired
from tasks.ledger.states import State
from tasks.ledger.store import children, events, runs
from tasks.ledger.store.cancelling import cancel
from tasks.transactions import begin_read, begin_write
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench


def never(_message: object, _runtime: Runtime) -> NoReturn:
    pytest.fail("this run must not be worked on")


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def call_off(bench: Bench, job_id: str = JOB_ID) -> None:
    cancel(bench.runtime.engine, job_id, reason="not needed", by="ada", now=bench.clock())


def timeline(bench: Bench, job_id: str = JOB_ID) -> list[Event]:
    return [one.event for one in events.timeline(bench.runtime.engine, job_id)]


class Effects:
    """A table of a job's own."""

    def __init__(self, bench: Bench) -> None:
        self.engine = bench.runtime.engine
        with begin_write(self.engine) as connection:
            connection.execute(text("CREATE TABLE effects (what TEXT)"))

    def add(self, connection: Connection) -> None:
        connection.execute(text("INSERT INTO effects VALUES ('done')"))

    def added(self, connection: Connection) -> Connection:
        self.add(connection)
        return connection

    def count(self) -> int:
        with begin_read(self.engine) as connection:
            return connection.scalar(text("SELECT count(*) FROM effects")) or 0


def held(bench: Bench, *, monotonic: Any = lambda: 0.0) -> RunAttempt:
    """Claim a run for a worker that the test plays."""
    runtime = bench.runtime
    claim = runs.claim(
        runtime.engine, bench.wanted(), now=bench.clock(), worker="one", lease=runtime.ledger.lease, max_attempts=4
    )
    assert claim.run is not None
    return RunAttempt(claim.run, runtime, monotonic=monotonic)


def test_job_learns_of_its_attempt(quick_bench: Bench) -> None:
    """The work is told its run, which attempt it is, and its fence."""
    seen = []

    def work(_message: object, runtime: Runtime) -> None:
        seen.append((runtime.attempt.run_id, runtime.attempt.number, runtime.attempt.fence))

    quick_bench.deliver(work)
    assert seen == [(JOB_ID, 1, 1)]


def test_lost_lease_stops_the_work_at_its_checkpoint(bench: Bench) -> None:
    """A worker that was stopped for longer than its lease finds out where it next asks, and records nothing."""

    def work(_message: object, runtime: Runtime) -> NoReturn:
        bench.clock.advance(seconds=61)
        bench.deliver(done)
        runtime.attempt.checkpoint()
        pytest.fail("the checkpoint let it pass")

    assert bench.deliver(work).verdict == "lost"
    assert (bench.run().result, bench.run().fence) == ("done", 2)


def test_stopped_worker_has_no_effect(bench: Bench) -> None:
    """What a worker writes after its run was given back is rolled back, whether or not another one has it by then."""
    effects = Effects(bench)
    attempt = held(bench)
    bench.clock.advance(seconds=61)
    assert len(release_expired(bench.runtime)) == 1
    for write in (attempt.guard, lambda connection: attempt.complete_in(connection, "late")):
        with pytest.raises(LeaseLostError), begin_write(bench.runtime.engine) as connection:
            write(effects.added(connection))
    assert (effects.count(), bench.run().state) == (0, State.QUEUED)


def test_lease_that_nobody_took_over_is_as_good_as_any(bench: Bench) -> None:
    """The fence decides, not the clock: the work of an hour is not thrown away because the database was away."""
    effects = Effects(bench)
    attempt = held(bench)
    bench.clock.advance(seconds=61)
    with begin_write(bench.runtime.engine) as connection:
        effects.add(connection)
        attempt.guard(connection)
    assert release_expired(bench.runtime) == []
    assert effects.count() == 1


def test_effect_and_outcome_are_one(bench: Bench) -> None:
    """Both are there after the transaction, with the result that was handed in."""
    effects = Effects(bench)

    def work(_message: object, runtime: Runtime) -> str:
        with begin_write(runtime.engine) as connection:
            effects.add(connection)
            runtime.attempt.complete_in(connection, {"rows": 1})
        return "something else"

    assert bench.deliver(work).verdict == "succeeded"
    assert (effects.count(), bench.run().result) == (1, {"rows": 1})
    assert timeline(bench) == [Event.QUEUED, Event.STARTED, Event.SUCCEEDED]


def test_effect_that_rolls_back_takes_the_outcome_with_it(bench: Bench) -> None:
    """A transaction that fails after the outcome was recorded in it leaves neither, and the run is tried again."""
    effects = Effects(bench)

    def work(_message: object, runtime: Runtime) -> None:
        with begin_write(runtime.engine) as connection:
            effects.add(connection)
            runtime.attempt.complete_in(connection, "done")
            msg = "disk is full"
            raise TransientError(msg)

    assert bench.deliver(work).verdict == "retried"
    assert (effects.count(), bench.run().state, bench.run().result) == (0, State.QUEUED, None)


def test_error_after_the_outcome_changes_nothing(quick_bench: Bench, log: list[Any]) -> None:
    """What was committed as a success stays one, and the error is in the log."""
    bench = quick_bench

    def work(_message: object, runtime: Runtime) -> None:
        with begin_write(runtime.engine) as connection:
            runtime.attempt.complete_in(connection, "done")
        raise ZeroDivisionError

    assert bench.deliver(work).verdict == "succeeded"
    assert bench.run().state is State.SUCCEEDED
    assert [entry["log_level"] for entry in log if entry["event"] == "job.raised_after_success"] == ["error"]


def test_cancelled_run_stops_at_its_checkpoint(bench: Bench) -> None:
    """Whoever calls a running run off need not wait for its end, and it says who did and why."""

    def work(_message: object, runtime: Runtime) -> NoReturn:
        call_off(bench)
        runtime.attempt.checkpoint()
        pytest.fail("the checkpoint let it pass")

    assert bench.deliver(work).verdict == "cancelled"
    assert (bench.run().state, bench.run().error) == (State.CANCELLED, "not needed (by ada)")
    assert bench.mirror()["state"] == "cancelled"
    assert timeline(bench)[-2:] == [Event.CANCEL_REQUESTED, Event.CANCELLED]


def test_queued_run_is_cancelled_at_once(bench: Bench) -> None:
    """Nobody has to wait for a worker, and the message that is still out does nothing."""
    runs.insert(bench.runtime.engine, [bench.wanted()], now=bench.clock(), republish_after=timedelta(0))
    call_off(bench)
    assert bench.run().state is State.CANCELLED
    assert bench.deliver(never).verdict == "skipped"


def test_cancel_outlives_the_worker(bench: Bench) -> None:
    """A worker that is killed after the request does not bring the run back."""
    held(bench)
    call_off(bench)
    bench.clock.advance(seconds=61)
    assert reconcile(bench.runtime).cancelled == 1
    assert bench.run().state is State.CANCELLED
    assert bench.deliver(never).verdict == "skipped"


def test_twin_does_not_bring_a_cancelled_run_back(bench: Bench) -> None:
    """Neither does a message that comes again before the reconciler has looked."""
    held(bench)
    call_off(bench)
    bench.clock.advance(seconds=61)
    assert bench.deliver(never).verdict == "cancelled"


def test_cancelled_run_is_not_tried_again(bench: Bench) -> None:
    """A transient error after the request ends the run; a permanent one is told as what it is."""
    for job_id, error, verdict in ((JOB_ID, TransientError, "cancelled"), (OTHER_ID, PermanentError, "failed")):

        def work(_message: object, _runtime: Runtime, *, job_id: str = job_id, error: Any = error) -> NoReturn:
            call_off(bench, job_id)
            raise error

        assert bench.deliver(work, job_id=job_id).verdict == verdict


def test_work_that_gets_through_has_succeeded(quick_bench: Bench) -> None:
    """A request that comes too late is on record, and changes nothing."""
    bench = quick_bench

    def work(_message: object, _runtime: Runtime) -> None:
        call_off(bench)

    assert bench.deliver(work).verdict == "succeeded"
    assert events.timeline(bench.runtime.engine, JOB_ID)[-1].detail == "done before it could stop: not needed (by ada)"


def test_checkpoint_asks_once_a_second(quick_bench: Bench) -> None:
    """Between two looks at the database a checkpoint costs nothing, so it may stand in any loop."""
    seconds = [0.0]
    attempt = held(quick_bench, monotonic=lambda: seconds[0])
    attempt.checkpoint()
    call_off(quick_bench)
    seconds[0] = LOOK_EVERY_S * 0.9
    attempt.checkpoint()
    seconds[0] = LOOK_EVERY_S
    with pytest.raises(CancelledError, match="not needed"):
        attempt.checkpoint()


def test_progress_is_seen_at_once(bench: Bench) -> None:
    """Row and mirror show it; nothing has happened to the run by it, so its revision stays."""
    seconds = [0.0]
    attempt = held(bench, monotonic=lambda: seconds[0])
    attempt.report(0.25, "first quarter")
    attempt.report(0.3, "too soon to tell")
    assert (bench.run().progress, bench.run().progress_text, bench.run().revision) == (0.25, "first quarter", 2)
    assert (bench.mirror()["progress"], bench.mirror()["progress_text"]) == ("0.25", "first quarter")
    seconds[0] = REPORT_EVERY_S
    attempt.report(7, "a\0b")
    assert (bench.run().progress, bench.mirror()["progress_text"]) == (1.0, "a\\x00b")


def test_report_is_a_checkpoint(quick_bench: Bench) -> None:
    """A loop that reports needs no checkpoint beside it."""
    attempt = held(quick_bench)
    call_off(quick_bench)
    with pytest.raises(CancelledError):
        attempt.report(0.5)


def test_progress_of_a_lost_attempt_is_not_shown(quick_bench: Bench) -> None:
    """The successor's progress is not overwritten."""
    attempt = held(quick_bench)
    quick_bench.clock.advance(seconds=61)
    release_expired(quick_bench.runtime)
    with pytest.raises(LeaseLostError):
        attempt.report(0.5)
    assert quick_bench.run().progress is None


def test_child_is_asked_for_once(bench: Bench) -> None:
    """However often its parent is tried, a child is one run: queued, published, and known as a child."""
    asked = []

    def work(_message: object, runtime: Runtime) -> NoReturn:
        asked.append(runtime.attempt.spawn(RunCanary(note="part 1"), key="part-1"))
        msg = "disk is full"
        raise TransientError(msg)

    assert [bench.deliver(work).verdict for _ in range(2)] == ["retried", "retried"]
    [child] = children.of(bench.runtime.engine, JOB_ID)
    assert asked == [child.id, child.id] == bench.queue.published * 2
    assert (child.state, child.parent_id, child.correlation_id) == (State.QUEUED, JOB_ID, bench.run().correlation_id)


def test_child_is_run_though_the_broker_was_away(quick_bench: Bench) -> None:
    """A child is committed before its message is out, and the reconciler makes up for the message."""
    bench = quick_bench
    bench.queue.is_away = True
    child = held(bench).spawn(RunCanary(), key="part-1")
    bench.queue.is_away = False
    bench.clock.advance(seconds=61)
    reconcile(bench.runtime)
    assert child in bench.queue.published


def test_children_are_cancelled_with_their_parent(bench: Bench) -> None:
    """Those that wait end at once, and their parent can ask for no more of them."""
    attempt = held(bench)
    child = attempt.spawn(RunCanary(), key="part-1")
    call_off(bench)
    assert bench.run(child).state is State.CANCELLED
    assert bench.run(child).error == "with its parent: not needed (by ada)"
    with pytest.raises(CancelledError):
        attempt.spawn(RunCanary(), key="part-2")
    assert len(children.of(bench.runtime.engine, JOB_ID)) == 1


def test_restarted_parent_gets_its_children_back(quick_bench: Bench) -> None:
    """A child that was cancelled with its parent runs when the parent is tried again and asks for it."""
    bench = quick_bench
    child = held(bench).spawn(RunCanary(), key="part-1")
    call_off(bench)
    bench.clock.advance(seconds=61)
    release_expired(bench.runtime)
    runs.restart(bench.runtime.engine, bench.run(), now=bench.clock())
    assert held(bench).spawn(RunCanary(), key="part-1") == child
    assert bench.run(child).state is State.QUEUED


def test_poison_job_ends_dead(bench: Bench) -> None:
    """A job that takes its worker with it each time is tried as often as any other, and then no more."""
    for attempt in (1, 2, 3, 4):
        held(bench)
        assert bench.run().attempt == attempt
        bench.clock.advance(seconds=61)
        reconcile(bench.runtime)
    assert (bench.run().state, bench.mirror()["state"]) == (State.DEAD, "dead")
    assert timeline(bench) == [Event.QUEUED, *[Event.STARTED, Event.RELEASED] * 3, Event.STARTED, Event.DEAD]
    assert bench.deliver(never).verdict == "skipped"


def test_late_run_says_so(quick_bench: Bench) -> None:
    """A slot whose first attempt began after its grace is late for ever, in its events and as JSON."""
    bench = quick_bench
    wanted = replace(bench.wanted(), late_after=bench.clock())
    runs.insert(bench.runtime.engine, [wanted], now=bench.clock(), republish_after=timedelta(0))
    assert bench.run().to_json()["late"] is None
    bench.clock.advance(seconds=1)
    bench.deliver(done)
    assert bench.run().to_json()["late"] is True
    started = events.timeline(bench.runtime.engine, JOB_ID)[1]
    assert started.detail == "late: it should have begun before 2026-03-01 12:00:00 UTC"


@pytest.mark.parametrize("finds_it", ["reconcile", "deliver"])
def test_run_that_may_not_begin_any_more_is_missed(bench: Bench, finds_it: str, log: list[Any]) -> None:
    """Whoever finds it first, a worker or the reconciler: it is not begun, and that is told as an error."""
    wanted = replace(bench.wanted(), start_before=bench.clock())
    runs.insert(bench.runtime.engine, [wanted], now=bench.clock(), republish_after=timedelta(0))
    bench.clock.advance(seconds=1)
    if finds_it == "reconcile":
        assert reconcile(bench.runtime).missed == 1
    else:
        assert bench.deliver(never).verdict == "missed"
    assert (bench.run().state, bench.mirror()["state"]) == (State.MISSED, "missed")
    assert [entry for entry in log if entry["log_level"] == "error"]


def test_retry_of_a_missed_run_is_better_late_than_never(quick_bench: Bench) -> None:
    """An operator who wants a missed run all the same gets it; what has begun once may be tried at any time."""
    bench = quick_bench
    wanted = replace(bench.wanted(), start_before=bench.clock())
    runs.insert(bench.runtime.engine, [wanted], now=bench.clock(), republish_after=timedelta(0))
    bench.clock.advance(seconds=1)
    bench.deliver(never)
    runs.restart(bench.runtime.engine, bench.run(), now=bench.clock())
    assert bench.deliver(done).verdict == "succeeded"
