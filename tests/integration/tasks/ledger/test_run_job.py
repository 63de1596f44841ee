"""What becomes of a message: its run, its mirror, its dead letter."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest
import structlog

from nightcrew import wire
from tasks.errors import PermanentError, TransientError
from tasks.ledger.operations import list_dead_letters, list_runs
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.retries import ONCE, RetryPolicy
from tasks.ledger.states import State
from tasks.transactions import begin_write
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID
from workers.database import create_engine

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench

SLOW = RetryPolicy(max_attempts=3, first_delay=timedelta(minutes=10), longest_delay=timedelta(minutes=10))


def give_note(message: Any, _runtime: Runtime) -> dict[str, Any]:
    return {"note": message.note}


def fail_for_now(_message: object, _runtime: Runtime) -> NoReturn:
    msg = "disk is full"
    raise TransientError(msg)


def fail_for_good(_message: object, _runtime: Runtime) -> NoReturn:
    msg = "no such model"
    raise PermanentError(msg)


def break_down(_message: object, _runtime: Runtime) -> NoReturn:
    raise ZeroDivisionError


def never(_message: object, _runtime: Runtime) -> NoReturn:
    pytest.fail("this run must not be worked on")


def test_message_without_intent_makes_its_run(bench: Bench) -> None:
    """A message that arrives before its intent is taken in makes the run itself, and its mirror."""
    outcome = bench.deliver(give_note, payload={"note": "hi"}, headers={wire.HEADER_CORRELATION_ID: "request-7"})
    run = bench.run()
    assert outcome.verdict == "succeeded"
    assert (run.state, run.attempt, run.fence, run.result) == (State.SUCCEEDED, 1, 1, {"note": "hi"})
    assert (run.correlation_id, run.worker) == ("request-7", "ledger@test")
    assert (bench.mirror()["state"], json.loads(bench.mirror()["result"])) == ("succeeded", {"note": "hi"})


def test_twin_of_a_finished_run_does_nothing(bench: Bench) -> None:
    """A message that is delivered again after the end is acknowledged without any work."""
    bench.deliver(give_note, payload={"note": "hi"})
    before = bench.run()
    assert bench.deliver(never).verdict == "skipped"
    assert bench.run() == before


def test_twin_of_a_running_run_does_nothing(quick_bench: Bench) -> None:
    """A message that is delivered again during the work is acknowledged without any work."""
    bench = quick_bench
    twins = []

    def work(_message: object, _runtime: Runtime) -> str:
        twins.append(bench.deliver(never).verdict)
        return "done"

    assert bench.deliver(work).verdict == "succeeded"
    assert twins == ["skipped"]
    assert bench.run().attempt == 1


def test_attempt_is_counted_before_the_work(quick_bench: Bench) -> None:
    """A job that kills its worker is counted all the same, so it cannot do so for ever."""
    bench = quick_bench
    seen = []

    def work(_message: object, _runtime: Runtime) -> None:
        seen.append((bench.run().state, bench.run().attempt, bench.run().fence))

    bench.deliver(work)
    assert seen == [(State.RUNNING, 1, 1)]


@pytest.mark.parametrize("failure", [fail_for_now, break_down])
def test_failed_attempt_is_tried_again_until_dead(quick_bench: Bench, failure: Any) -> None:
    """Transient and unforeseen errors are retried with growing waits; after the last attempt the run is dead."""
    bench = quick_bench
    for attempt in (1, 2, 3):
        outcome = bench.deliver(failure)
        assert outcome.verdict == "retried"
        assert outcome.publish_again_in is not None
        assert (bench.run().state, bench.run().attempt) == (State.QUEUED, attempt)
        bench.clock.now += outcome.publish_again_in
    assert bench.deliver(failure).verdict == "dead"
    assert (bench.run().state, bench.run().attempt, bench.mirror()["state"]) == (State.DEAD, 4, "dead")
    assert bench.deliver(never).verdict == "skipped"


def test_permanent_error_fails_at_once(bench: Bench) -> None:
    """An error that trying again cannot help ends the run, and its text is kept."""
    assert bench.deliver(fail_for_good).verdict == "failed"
    assert (bench.run().state, bench.run().error) == (State.FAILED, "PermanentError: no such model")
    assert bench.mirror()["error"] == "PermanentError: no such model"


def test_long_wait_is_left_to_the_reconciler(quick_bench: Bench) -> None:
    """No message waits longer than a minute on the broker: the reconciler publishes it when its time has come."""
    bench = quick_bench
    outcome = bench.deliver(fail_for_now, retry=SLOW)
    assert (outcome.verdict, outcome.publish_again_in) == ("retried", None)
    bench.clock.advance(minutes=4)
    assert reconcile(bench.runtime).republished == 0
    bench.clock.advance(minutes=7)
    assert reconcile(bench.runtime).republished == 1
    assert bench.queue.published == [JOB_ID]


def test_result_of_a_lost_claim_is_thrown_away(bench: Bench) -> None:
    """A worker that was silent for longer than its lease records nothing over its successor's result."""

    def work(_message: object, _runtime: Runtime) -> str:
        bench.clock.advance(seconds=61)
        bench.deliver(lambda _message, _runtime: "second")
        return "first"

    assert bench.deliver(work).verdict == "lost"
    assert (bench.run().result, bench.run().fence, bench.mirror()["result"]) == ("second", 2, '"second"')


def test_error_of_a_lost_claim_is_thrown_away(quick_bench: Bench) -> None:
    """The error of a worker that lost its claim does not end its successor's run."""
    bench = quick_bench

    def work(_message: object, _runtime: Runtime) -> NoReturn:
        bench.clock.advance(seconds=61)
        bench.deliver(lambda _message, _runtime: "second")
        raise PermanentError

    assert bench.deliver(work).verdict == "lost"
    assert bench.run().state is State.SUCCEEDED


def test_result_that_is_no_json_fails_the_run(quick_bench: Bench) -> None:
    """A result that cannot be kept is a fault of the job, named as such."""
    bench = quick_bench
    assert bench.deliver(lambda _message, _runtime: {1, 2}).verdict == "failed"
    assert "no JSON" in (bench.run().error or "")
    assert bench.deliver(lambda _message, _runtime: float("nan"), job_id=OTHER_ID).verdict == "failed"


def test_any_text_can_travel(bench: Bench) -> None:
    """NUL and half of a surrogate pair, which PostgreSQL takes in no text, pass through payload, result and error."""
    odd = {"note": "a\0b \ud800 ü"}
    assert bench.deliver(give_note, payload=odd).verdict == "succeeded"
    assert (bench.run().payload, bench.run().result) == (odd, odd)

    def complain(message: Any, _runtime: Runtime) -> NoReturn:
        raise PermanentError(message.note)

    assert bench.deliver(complain, payload=odd, job_id=OTHER_ID).verdict == "failed"
    assert bench.run(OTHER_ID).error == "PermanentError: a\\x00b \\ud800 ü"


def test_duplicate_is_told_to_whoever_waits(bench: Bench) -> None:
    """An app whose job was a duplicate sees it cancelled instead of waiting for ever."""
    key = {wire.HEADER_DEDUP_KEY: "invoice-7"}
    bench.deliver(give_note, payload={"note": ""}, headers=key)
    assert bench.deliver(never, job_id=OTHER_ID, headers=key).verdict == "skipped"
    assert bench.mirror(OTHER_ID)["state"] == "cancelled"
    assert JOB_ID in bench.mirror(OTHER_ID)["error"]


@pytest.mark.parametrize(
    ("job_id", "payload", "headers"),
    [
        (JOB_ID, {"note": 5}, {}),
        (JOB_ID, {"note": "", "more": float("inf")}, {}),
        (JOB_ID, {}, {wire.HEADER_SCHEMA: None}),
        (JOB_ID, {}, {wire.HEADER_SCHEMA: 99}),
        (JOB_ID, {}, {wire.HEADER_SCHEMA: [1]}),
        (JOB_ID, {}, {wire.HEADER_ENQUEUED_AT: "soon"}),
        (JOB_ID, {}, {wire.HEADER_CORRELATION_ID: "a\0b"}),
        (JOB_ID, {}, {wire.HEADER_DEDUP_KEY: {}}),
        ("no-uuid\0", {}, {}),
        (None, {}, {}),
    ],
)
def test_unreadable_message_becomes_a_dead_letter(
    quick_bench: Bench, job_id: str | None, payload: dict[str, Any], headers: dict[str, Any]
) -> None:
    """A message that cannot be a job is kept whole for the operator, and makes no run."""
    bench = quick_bench
    outcome = bench.deliver(never, job_id=job_id, payload=payload, headers=headers)
    assert outcome.verdict == "dead_lettered"
    [letter] = list_dead_letters(bench.runtime)
    assert (letter.source, letter.kind, letter.reason) == ("nightcrew.ledger", "ledger.canary", outcome.reason)
    assert "headers" in json.loads(letter.body)
    assert list_runs(bench.runtime) == []


def test_run_of_an_unreadable_message_fails(quick_bench: Bench) -> None:
    """A run that the ledger knew already does not wait for a message that nobody can read."""
    bench = quick_bench
    bench.intend()
    reconcile(bench.runtime)
    bench.deliver(never, headers={wire.HEADER_SCHEMA: 99})
    assert (bench.run().state, bench.mirror()["state"]) == (State.FAILED, "failed")


def test_database_in_the_way_decides_nothing(quick_bench: Bench, sqlite_url: str) -> None:
    """A message that could not be claimed, or not be given up, is to come again and then finds everything undone."""
    bench, engine = quick_bench, quick_bench.runtime.engine
    hasty = create_engine(sqlite_url, busy_timeout_s=0.01)
    bench.intend()
    reconcile(bench.runtime)
    bench.runtime = replace(bench.runtime, engine=hasty)
    with begin_write(engine):
        with pytest.raises(TransientError):
            bench.deliver(never)
        with pytest.raises(TransientError):
            bench.deliver(never, headers={wire.HEADER_SCHEMA: 99})
    assert bench.redis.xlen(wire.DEAD_LETTERS) == 0
    assert bench.deliver(give_note, payload={"note": ""}).verdict == "succeeded"
    hasty.dispose()


def test_doorbell_leaves_no_run(quick_bench: Bench) -> None:
    """A doorbell does its work without a row."""
    bench = quick_bench
    assert bench.deliver(lambda _message, _runtime: None, row_optional=True).verdict == "rung"
    assert list_runs(bench.runtime) == []


def test_doorbell_with_a_run_ends_it(quick_bench: Bench) -> None:
    """A doorbell that an app enqueued, or the timetable fired, ends its run as any job does."""
    bench = quick_bench
    bench.intend(kind="usage.drain")
    reconcile(bench.runtime)
    assert bench.deliver(lambda _message, _runtime: {"drained": 3}, row_optional=True).verdict == "succeeded"
    assert bench.run().result == {"drained": 3}


def test_doorbell_of_an_app_has_its_outcome_before_its_intent_is_taken_in(quick_bench: Bench) -> None:
    """Whoever enqueued a doorbell and waits for it need not wait for the reconciler."""
    bench = quick_bench
    verdict = bench.deliver(lambda *_: {"drained": 3}, row_optional=True, headers={wire.HEADER_INTENT: True}).verdict
    assert verdict == "succeeded"
    assert bench.run().result == {"drained": 3}


def test_doorbell_in_trouble_waits_for_the_next(quick_bench: Bench) -> None:
    """A transient error of a doorbell is over with it; a permanent one becomes a dead letter."""
    assert quick_bench.deliver(fail_for_now, row_optional=True).verdict == "postponed"
    assert list_dead_letters(quick_bench.runtime) == []
    assert quick_bench.deliver(fail_for_good, row_optional=True).verdict == "dead_lettered"
    assert [letter.reason for letter in list_dead_letters(quick_bench.runtime)] == ["no such model"]


def test_correlation_id_is_bound_during_the_work(quick_bench: Bench) -> None:
    """Every log line of a job carries its correlation id, and none after it."""
    seen = []

    def work(_message: object, _runtime: Runtime) -> None:
        seen.append(dict(structlog.contextvars.get_contextvars()))

    quick_bench.deliver(work, headers={wire.HEADER_CORRELATION_ID: "request-7"})
    assert seen == [{"correlation_id": "request-7", "job_id": JOB_ID, "kind": "ledger.canary"}]
    assert structlog.contextvars.get_contextvars() == {}


def test_single_attempt_policy_ends_dead(quick_bench: Bench) -> None:
    """The limit of the policy goes before that of the settings."""
    assert quick_bench.deliver(fail_for_now, retry=ONCE).verdict == "dead"
    assert cast("int", quick_bench.run().max_attempts) == 1
