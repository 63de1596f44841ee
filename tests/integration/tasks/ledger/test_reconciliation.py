"""What the reconciler finds and mends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from nightcrew import wire
from nightcrew.messages import RunCanary
from tasks.errors import TransientError
from tasks.ledger.dead_letters import DeadLetter
from tasks.ledger.operations import list_dead_letters, list_runs
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store import mirror, runs, streams
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench
    from tests.support.redis import RedisServer


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def crash_after_claim(bench: Bench) -> None:
    """Claim as a worker does that is killed at once."""
    taken = runs.claim(
        bench.runtime.engine,
        bench.wanted(),
        now=bench.clock(),
        worker="killed@test",
        lease=bench.runtime.ledger.lease,
        max_attempts=3,
    )
    assert taken.taken


def test_intents_become_runs_once(bench: Bench) -> None:
    """An intent is a run after the pass, mirrored, and gone from the stream; taken in again, it changes nothing."""
    for _ in range(2):
        bench.intend()
        bench.intend(OTHER_ID, payload='{"note": "x"}')
        reconcile(bench.runtime)
        assert bench.redis.xlen(wire.INTENTS) == 0
    assert {run.id for run in list_runs(bench.runtime)} == {JOB_ID, OTHER_ID}
    assert (bench.mirror()["state"], bench.run().revision) == ("queued", 1)


def test_intent_of_a_finished_run_changes_nothing(bench: Bench) -> None:
    """An intent that is taken in after its message was worked on does not start the run again."""
    bench.intend()
    bench.deliver(done)
    reconcile(bench.runtime)
    assert (bench.run().state, bench.mirror()["state"]) == (State.SUCCEEDED, "succeeded")


def test_reconcilers_may_meet(bench: Bench) -> None:
    """Reconcilers that take in the same intents at once make one run of each."""
    for number in range(40):
        bench.intend(f"01931f2e-5f6a-7abc-8def-{number:012x}")
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(reconcile, [bench.runtime] * 3))
    assert sum(report.intents for report in reports) == 40
    assert len(list_runs(bench.runtime, limit=100)) == 40


def test_unreadable_intent_becomes_a_dead_letter(bench: Bench) -> None:
    """An intent that cannot become a run is kept, and the ones around it are taken in."""
    bench.intend(payload="{")
    bench.redis.xadd(wire.INTENTS, {b"\xff": b"\xfe\0"})
    bench.intend(OTHER_ID)
    report = reconcile(bench.runtime)
    assert (report.intents, report.dead_letters) == (1, 2)
    assert {letter.source for letter in list_dead_letters(bench.runtime)} == {wire.INTENTS}


def test_duplicate_intent_is_told(quick_bench: Bench) -> None:
    """Whoever waits for a job whose key another one has sees it cancelled, also when its message got lost."""
    bench = quick_bench
    bench.intend(dedup_key="k")
    bench.intend(OTHER_ID, dedup_key="k")
    assert reconcile(bench.runtime).intents == 1
    assert (bench.mirror()["state"], bench.mirror(OTHER_ID)["state"]) == ("queued", "cancelled")


def test_wiped_redis_loses_no_new_intent(quick_bench: Bench) -> None:
    """After Redis came back empty, and gives smaller ids than before, every new intent is taken in all the same."""
    bench = quick_bench
    bench.redis.xadd(wire.INTENTS, {"v": "1"}, id="9999999999999-0")
    reconcile(bench.runtime)
    bench.redis.flushall()
    bench.intend(entry_id="5-0")
    assert reconcile(bench.runtime).intents == 1
    assert bench.run().state is State.QUEUED


def test_wiped_redis_gets_its_mirror_back(bench: Bench) -> None:
    """After Redis came back empty, apps see the state of their jobs again."""
    bench.deliver(done)
    reconcile(bench.runtime)
    bench.clock.advance(hours=2)
    bench.redis.flushall()
    reconcile(bench.runtime)
    assert (bench.mirror()["state"], bench.mirror()["result"]) == ("succeeded", '"done"')


def test_late_mirror_write_changes_nothing(quick_bench: Bench) -> None:
    """A worker that mirrors an older state after a newer one was mirrored does not bring it back."""
    bench = quick_bench
    bench.intend()
    reconcile(bench.runtime)
    old = bench.run()
    bench.deliver(done)
    mirror.write(bench.redis, [old], ttl=timedelta(hours=1))
    assert bench.mirror()["state"] == "succeeded"


def test_dead_letters_are_moved_once(bench: Bench) -> None:
    """A letter stands in the database once, also when its stream entry outlived the commit."""
    letter = DeadLetter(
        source="nightcrew.usage", kind=None, job_id=None, reason="no JSON", body="{}", received_at=bench.clock()
    )
    streams.append_dead_letter(bench.redis, letter)
    [(entry_id, fields)] = streams.oldest_entries(bench.redis, wire.DEAD_LETTERS, count=1)
    assert reconcile(bench.runtime).dead_letters == 1
    bench.redis.delete(wire.DEAD_LETTERS)
    bench.redis.xadd(wire.DEAD_LETTERS, cast("Any", dict(fields)), id=entry_id)
    assert reconcile(bench.runtime).dead_letters == 0
    assert [kept.reason for kept in list_dead_letters(bench.runtime)] == ["no JSON"]


def test_anything_in_the_dead_letter_stream_is_kept(bench: Bench) -> None:
    """Bytes that are no letter at all become one, NUL and half surrogates included."""
    bench.redis.xadd(wire.DEAD_LETTERS, {b"\xff\0": b"\x80\0", b"source": b"a\0b"})
    assert reconcile(bench.runtime).dead_letters == 1


def test_crashed_run_is_tried_again_until_dead(bench: Bench) -> None:
    """A run whose worker falls silent is published again within lease and pass, and is dead after its attempts."""
    for attempt in (1, 2):
        crash_after_claim(bench)
        bench.clock.advance(seconds=59)
        assert reconcile(bench.runtime).requeued == 0
        bench.clock.advance(seconds=2)
        report = reconcile(bench.runtime)
        assert (report.requeued, report.republished) == (1, 1)
        assert (bench.run().state, bench.run().attempt) == (State.QUEUED, attempt)
    crash_after_claim(bench)
    bench.clock.advance(seconds=61)
    assert reconcile(bench.runtime).buried == 1
    assert (bench.run().state, bench.mirror()["state"]) == (State.DEAD, "dead")
    assert "killed@test fell silent" in (bench.run().error or "")
    assert bench.queue.published == [JOB_ID, JOB_ID]


def test_lost_message_is_published_again(quick_bench: Bench) -> None:
    """A queued run that nobody started gets another message each minute, and not more often."""
    bench = quick_bench
    bench.intend()
    assert reconcile(bench.runtime).republished == 0
    bench.clock.advance(seconds=61)
    assert [reconcile(bench.runtime).republished for _ in range(2)] == [1, 0]
    bench.redis.delete("nightcrew.ledger")
    bench.clock.advance(seconds=61)
    assert reconcile(bench.runtime).republished == 1


def test_long_queue_is_not_made_longer(quick_bench: Bench) -> None:
    """While the message of a run may still be waiting in its queue, it gets no other one."""
    bench = quick_bench
    bench.queue.publish(RunCanary(), job_id=OTHER_ID, correlation_id="", enqueued_at=bench.clock())
    bench.clock.advance(seconds=1)
    bench.intend()
    reconcile(bench.runtime)
    for _ in range(5):
        bench.clock.advance(minutes=2)
        assert reconcile(bench.runtime).republished == 0
    bench.redis.delete("nightcrew.ledger")
    bench.clock.advance(minutes=2)
    assert reconcile(bench.runtime).republished == 1


def test_app_with_a_fast_clock_is_looked_after(quick_bench: Bench) -> None:
    """A run whose app lives in the future is published again like any other."""
    bench = quick_bench
    bench.intend(enqueued_at=str((bench.clock() + timedelta(days=900)).timestamp()))
    reconcile(bench.runtime)
    bench.clock.advance(seconds=61)
    assert reconcile(bench.runtime).republished == 1


def test_broker_that_goes_away_changes_nothing(quick_bench: Bench) -> None:
    """A pass that cannot publish says so, and the next one does it."""
    bench = quick_bench
    bench.intend()
    reconcile(bench.runtime)
    bench.clock.advance(seconds=61)
    bench.queue.is_away = True
    with pytest.raises(TransientError):
        reconcile(bench.runtime)
    bench.queue.is_away = False
    assert reconcile(bench.runtime).republished == 1


def test_run_that_cannot_be_read_any_more_fails(quick_bench: Bench) -> None:
    """A queued run whose kind this release does not know ends with an outcome instead of waiting for ever."""
    bench = quick_bench
    wanted: Any = bench.wanted()
    object.__setattr__(wanted, "kind", "gone.away")
    runs.insert(bench.runtime.engine, [wanted], now=bench.clock(), republish_after=timedelta(0))
    assert reconcile(bench.runtime).republished == 0
    assert (bench.run().state, bench.mirror()["state"]) == (State.FAILED, "failed")
    assert "unknown kind" in (bench.run().error or "")


def test_old_upkeep_is_forgotten(bench: Bench) -> None:
    """Succeeded canaries and reconciles go after a day; what went wrong stays."""
    bench.deliver(done)
    bench.deliver(lambda _message, _runtime: {1}, job_id=OTHER_ID)
    bench.clock.advance(hours=23)
    assert reconcile(bench.runtime).forgotten == 0
    bench.clock.advance(hours=2)
    assert reconcile(bench.runtime).forgotten == 1
    assert [run.id for run in list_runs(bench.runtime)] == [OTHER_ID]


def test_mirror_write_that_failed_is_made_up(quick_bench: Bench, own_redis_server: RedisServer) -> None:
    """A broker that is away at the end of a job undoes nothing, and the next pass shows apps the outcome."""
    bench = quick_bench
    bench.runtime = replace(bench.runtime, redis=own_redis_server.client(socket_timeout=1.0))
    reconcile(bench.runtime)

    def work(_message: object, _runtime: Runtime) -> str:
        own_redis_server.kill9()
        return "done"

    assert bench.deliver(work).verdict == "succeeded"
    own_redis_server.start()
    reconcile(bench.runtime)
    assert bench.mirror()["state"] == "succeeded"
