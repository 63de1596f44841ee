"""What an operator sees and does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from nightcrew import wire
from nightcrew.messages import RunCanary
from tasks.errors import PermanentError
from tasks.ledger.filters import Filter
from tasks.ledger.operations import (
    NotRetryableError,
    UnknownLetterError,
    UnknownRunError,
    find_dead_letter,
    find_run,
    list_dead_letters,
    list_runs,
    queue_depths,
    retry_dead_letter,
    retry_run,
    summarize,
)
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store.queues import unacked_key
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench


def refuse(_message: object, _runtime: Runtime) -> NoReturn:
    msg = "no"
    raise PermanentError(msg)


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def test_runs_are_listed_newest_first(bench: Bench) -> None:
    """The list is in the order of queueing, and may be narrowed by state and kind."""
    bench.deliver(refuse)
    bench.clock.advance(seconds=1)
    bench.deliver(done, job_id=OTHER_ID)
    assert [run.id for run in list_runs(bench.runtime)] == [OTHER_ID, JOB_ID]
    assert [run.id for run in list_runs(bench.runtime, Filter(states=frozenset({State.FAILED})))] == [JOB_ID]
    assert list_runs(bench.runtime, Filter(kind="no.such")) == []
    assert len(list_runs(bench.runtime, limit=1)) == 1
    assert json.loads(json.dumps(list_runs(bench.runtime)[0].to_json()))["state"] == "succeeded"


def test_run_is_found_by_a_beginning(bench: Bench) -> None:
    """A beginning of an id finds its run when no other shares it; wildcards are no such thing."""
    bench.deliver(done)
    assert find_run(bench.runtime, JOB_ID[:8]).id == JOB_ID
    bench.deliver(done, job_id=OTHER_ID)
    assert find_run(bench.runtime, JOB_ID.upper()).id == JOB_ID
    with pytest.raises(UnknownRunError, match="more than one"):
        find_run(bench.runtime, JOB_ID[:8])
    for nothing in ("ffff", "%", "0_9", "", "\0"):
        with pytest.raises(UnknownRunError, match="no run"):
            find_run(bench.runtime, nothing)


def test_failed_run_is_retried_with_a_new_fence(bench: Bench) -> None:
    """A retried run has all its attempts again, is published at once, and its fence goes on growing."""
    bench.deliver(refuse)
    run = retry_run(bench.runtime, JOB_ID)
    assert (run.state, run.attempt, run.fence, run.finished_at) == (State.QUEUED, 0, 1, None)
    assert (bench.queue.published, bench.mirror()["state"]) == ([JOB_ID], "queued")
    assert bench.deliver(done).verdict == "succeeded"
    assert (bench.run().fence, bench.run().attempt, bench.run().error) == (2, 1, None)


def test_retry_of_a_healthy_run_is_refused(quick_bench: Bench) -> None:
    """What succeeded or has not ended yet cannot be retried."""
    bench = quick_bench
    bench.intend(OTHER_ID)
    reconcile(bench.runtime)
    bench.deliver(done)
    for job_id, state in ((JOB_ID, "succeeded"), (OTHER_ID, "queued")):
        with pytest.raises(NotRetryableError, match=state):
            retry_run(bench.runtime, job_id)
    assert bench.queue.published == []


def test_dead_message_is_retried(bench: Bench) -> None:
    """A dead letter whose message this release can read goes back on its queue, and is marked."""
    bench.deliver(done, headers={wire.HEADER_SCHEMA: 99})
    [letter] = list_dead_letters(bench.runtime)
    assert retry_dead_letter(bench.runtime, letter.id).retried_at == bench.clock()
    assert bench.queue.published == [JOB_ID]
    assert list_dead_letters(bench.runtime) == []
    assert [kept.id for kept in list_dead_letters(bench.runtime, include_retried=True)] == [letter.id]


def test_dead_message_takes_its_run_along(quick_bench: Bench) -> None:
    """The run that failed by an unreadable message is queued again with it."""
    bench = quick_bench
    bench.intend()
    reconcile(bench.runtime)
    bench.deliver(done, headers={wire.HEADER_SCHEMA: 99})
    [letter] = list_dead_letters(bench.runtime)
    retry_dead_letter(bench.runtime, letter.id)
    assert (bench.run().state, bench.queue.published) == (State.QUEUED, [JOB_ID])
    with pytest.raises(NotRetryableError, match="queued"):
        retry_dead_letter(bench.runtime, letter.id)


def test_dead_entry_is_appended_again(quick_bench: Bench) -> None:
    """A dead letter that was an entry of the usage log is put at its end, byte by byte."""
    bench = quick_bench
    body = json.dumps({"v": "7", "d": {"base64": "/w=="}})
    letter: Any = {
        "v": "1",
        "source": wire.usage_stream(0),
        "reason": "r",
        "body": body,
        "received_at": "1767225600",
    }
    bench.redis.xadd(wire.DEAD_LETTERS, letter)
    [kept] = list_dead_letters(bench.runtime)
    retry_dead_letter(bench.runtime, kept.id)
    answer: Any = bench.redis.xrange(wire.usage_stream(0))
    [(_, fields)] = answer
    assert (fields[b"v"], fields[b"d"]) == (b"7", b"\xff")


def test_dead_intent_that_can_be_read_now_is_appended_again(quick_bench: Bench) -> None:
    """It may come from before an upgrade; one that still cannot be read would only come back."""
    bench = quick_bench
    intent = {"v": "1", "id": JOB_ID, "kind": "ledger.canary", "payload": "{}", "enqueued_at": "1767225600"}
    for version in ("1", "7"):
        body = json.dumps({**intent, "v": version})
        letter: Any = {"v": "1", "source": wire.INTENTS, "reason": "r", "body": body, "received_at": "1767225600"}
        bench.redis.xadd(wire.DEAD_LETTERS, letter)
    unreadable, readable = list_dead_letters(bench.runtime)
    retry_dead_letter(bench.runtime, readable.id)
    with pytest.raises(NotRetryableError, match="version"):
        retry_dead_letter(bench.runtime, unreadable.id)
    answer: Any = bench.redis.xrange(wire.INTENTS)
    [(_, fields)] = answer
    assert (fields[b"id"], fields[b"v"]) == (JOB_ID.encode(), b"1")


def test_hopeless_letter_stays_open(quick_bench: Bench) -> None:
    """A letter that still cannot be read is refused and not marked; an unknown number is named."""
    bench = quick_bench
    bench.deliver(done, payload={"note": 5})
    [letter] = list_dead_letters(bench.runtime)
    with pytest.raises(NotRetryableError, match="note"):
        retry_dead_letter(bench.runtime, letter.id)
    assert find_dead_letter(bench.runtime, letter.id).retried_at is None
    with pytest.raises(UnknownLetterError, match="999"):
        retry_dead_letter(bench.runtime, 999)


def test_depths_tell_length_and_age(quick_bench: Bench) -> None:
    """Each queue shows what waits, since when, and what is taken; also queues that nobody serves."""
    bench = quick_bench
    first = bench.clock()
    for _ in range(3):
        bench.queue.publish(RunCanary(), job_id=JOB_ID, correlation_id="", enqueued_at=bench.clock())
        bench.clock.advance(seconds=10)
    bench.redis.hset(unacked_key("nightcrew.ledger"), "tag", "message")
    bench.redis.rpush("nightcrew.usage", b"\xff no message")
    depths = {depth.queue: depth for depth in queue_depths(bench.runtime)}
    ledger, usage = depths["nightcrew.ledger"], depths["nightcrew.usage"]
    assert (ledger.waiting, ledger.oldest_at, ledger.unacked) == (3, first, 1)
    assert (usage.waiting, usage.oldest_at, usage.unacked) == (1, None, 0)
    assert ledger.to_json()["oldest_at"] == first.isoformat()


def test_summary_counts_everything(bench: Bench) -> None:
    """The summary counts runs by state, open letters and intents still to be taken in."""
    bench.deliver(done)
    bench.deliver(done, payload={"note": 5}, job_id=OTHER_ID)
    bench.intend(OTHER_ID)
    summary = summarize(bench.runtime)
    assert (summary.runs[State.SUCCEEDED], summary.runs[State.DEAD]) == (1, 0)
    assert (summary.open_dead_letters, summary.waiting_intents) == (1, 1)
    assert summary.to_json()["runs"]["succeeded"] == 1
