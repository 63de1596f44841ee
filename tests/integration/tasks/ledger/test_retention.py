"""What the reconciler forgets, what it keeps, and what of the forgotten may come back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, insert, select

from nightcrew import wire
from nightcrew._uuid7 import uuid7
from tasks.ledger.forgetting import forget_old
from tasks.ledger.operations import list_dead_letters, retry_dead_letter
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.retention import retention_rules
from tasks.ledger.states import State
from tasks.ledger.store import streams
from tasks.ledger.store.retention import BATCH, has_runs
from tasks.ledger.tables import DeadLetter, JobRun, Ping, RunEvent, ScheduleState
from tasks.transactions import begin_read, begin_write
from tests.integration.tasks.ledger.conftest import JOB_ID

if TYPE_CHECKING:
    from tasks.ledger.forgetting import Forgotten
    from tests.integration.tasks.ledger.conftest import Bench

LONG_AGO = timedelta(days=400)
PATIENT_S = 60.0
"""Time enough on any machine: what its own budget leaves over, the next reconcile takes."""


def write(bench: Bench, table: type, *rows: dict[str, Any]) -> None:
    with begin_write(bench.runtime.engine) as connection:
        for row in rows:
            connection.execute(insert(table).values(row))


def run(
    bench: Bench, run_id: str = "", *, kind: str = "app.report", age: timedelta = LONG_AGO, **values: Any
) -> dict[str, Any]:
    """Give the row of a run that has ended so long ago; the values are those of the columns."""
    then = bench.clock() - age
    return {
        "id": run_id or str(uuid7()),
        "kind": kind,
        "queue": "nightcrew.app",
        "payload": {},
        "state": State.SUCCEEDED,
        "correlation_id": "test",
        "enqueued_at": then,
        "queued_at": then,
        "republish_at": then,
        "finished_at": then,
        "updated_at": then,
        **values,
    }


def forget(bench: Bench) -> Forgotten:
    return forget_old(bench.runtime, budget_s=PATIENT_S)


def ids(bench: Bench, table: Any = JobRun) -> set[Any]:
    with begin_read(bench.runtime.engine) as connection:
        return set(connection.scalars(select(table.id)))


def count(bench: Bench, table: Any) -> int:
    with begin_read(bench.runtime.engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_each_outcome_has_its_time(bench: Bench) -> None:
    """What went well goes after a month, what went wrong after half a year, each with its timeline."""
    month, half_a_year, hour = timedelta(days=30), timedelta(days=180), timedelta(hours=1)
    write(
        bench,
        JobRun,
        run(bench, "old-success", age=month + hour),
        run(bench, "new-success", age=month - hour),
        run(bench, "old-cancelled", age=month + hour, state=State.CANCELLED),
        *(run(bench, f"old-{state}", age=half_a_year + hour, state=state) for state in ("failed", "dead", "missed")),
        *(run(bench, f"new-{state}", age=half_a_year - hour, state=state) for state in ("failed", "dead", "missed")),
        run(bench, "upkeep", kind="ledger.reconcile", age=timedelta(hours=25)),
        run(bench, "missed-upkeep", kind="usage.drain", age=timedelta(hours=25), state=State.MISSED),
        run(bench, "failed-upkeep", kind="usage.drain", age=timedelta(hours=25), state=State.FAILED),
    )
    event = {"revision": 1, "at": bench.clock(), "event": "queued", "state": "queued", "attempt": 0}
    write(bench, RunEvent, {"run_id": "old-success", **event}, {"run_id": "new-success", **event})
    assert forget(bench).runs == 7
    assert ids(bench) == {"new-success", "new-failed", "new-dead", "new-missed", "failed-upkeep"}
    assert count(bench, RunEvent) == 1


def test_nothing_that_has_not_ended_is_forgotten(bench: Bench) -> None:
    """However old, a run that waits or works stays."""
    unfinished = [run(bench, f"{state}", state=state, finished_at=None) for state in (State.QUEUED, State.RUNNING)]
    write(bench, JobRun, *unfinished)
    assert forget(bench).runs == 0


def test_family_goes_from_the_top(bench: Bench) -> None:
    """A parent waits for its children to end, and a child stays as long as its parent may look for it."""
    write(
        bench,
        JobRun,
        run(bench, "busy-parent"),
        run(bench, "busy-child", parent_id="busy-parent", state=State.QUEUED, finished_at=None),
        run(bench, "kept-parent", age=timedelta(days=31), state=State.DEAD),
        run(bench, "child-of-kept", parent_id="kept-parent"),
        run(bench, "parent"),
        run(bench, "child", parent_id="parent"),
    )
    forget(bench)
    forget(bench)
    assert ids(bench) == {"busy-parent", "busy-child", "kept-parent", "child-of-kept"}


def test_slots_that_a_walk_looks_for_stay(bench: Bench) -> None:
    """The newest slot of an entry stays, and every slot that was not walked over yet."""
    now = bench.clock()
    for entry, walked_until in (("walked", now), ("behind", now - timedelta(days=399))):
        write(bench, ScheduleState, {"name": entry, "walked_until": walked_until})
        ages = (timedelta(days=number) for number in (402, 401, 398))
        write(
            bench, JobRun, *(run(bench, f"{entry}-{age.days}", age=age, entry=entry, slot_at=now - age) for age in ages)
        )
    write(
        bench,
        JobRun,
        run(bench, "behind-397", age=timedelta(days=397), entry="behind", slot_at=now - timedelta(days=397)),
    )
    forget(bench)
    assert ids(bench) == {"walked-398", "behind-398", "behind-397"}


def test_app_with_a_fast_clock_does_not_get_its_job_twice(bench: Bench) -> None:
    """A run counts from when it was asked for or ended, whichever is later: else its message would look new."""
    write(bench, JobRun, run(bench, "ahead", enqueued_at=bench.clock() - timedelta(days=1)))
    assert forget(bench).runs == 0


def test_much_is_forgotten_in_small_bites(bench: Bench) -> None:
    """More than a batch goes in one pass; a pass without time does nothing, and the next one makes up for it."""
    write(bench, JobRun, *(run(bench) for _ in range(2 * BATCH + 1)))
    assert forget_old(bench.runtime, budget_s=0).runs == 0
    assert forget(bench).runs == 2 * BATCH + 1
    assert not any(
        has_runs(bench.runtime.engine, rule) for rule in retention_rules(bench.runtime.ledger, now=bench.clock())
    )


def test_message_of_a_forgotten_run_is_not_run_again(bench: Bench) -> None:
    """A message that comes back after its run was forgotten becomes a dead letter that says why."""
    calls: list[datetime] = []

    def work(_message: object, _runtime: object) -> None:
        calls.append(bench.clock())

    asked_for = {wire.HEADER_ENQUEUED_AT: bench.clock().timestamp()}
    assert bench.deliver(work).verdict == "succeeded"
    bench.clock.advance(days=2)
    assert bench.deliver(work, headers=asked_for).verdict == "skipped"
    reconcile(bench.runtime)
    assert JOB_ID not in ids(bench)
    assert bench.deliver(work, headers=asked_for).verdict == "dead_lettered"
    reconcile(bench.runtime)
    assert len(calls) == 1
    assert [letter.reason.partition(":")[0] for letter in list_dead_letters(bench.runtime)] == ["too old"]


def test_intent_of_a_forgotten_run_is_not_taken_in_again(bench: Bench) -> None:
    """The same for an intent, as from a Redis that was set back; one whose run is known changes nothing."""
    bench.intend()
    fields = dict(streams.oldest_entries(bench.redis, wire.INTENTS, count=1)[0][1])
    bench.deliver(lambda _message, _runtime: None)
    bench.clock.advance(days=2)
    streams.append_entry(bench.redis, wire.INTENTS, fields)
    assert reconcile(bench.runtime).dead_letters == 0
    streams.append_entry(bench.redis, wire.INTENTS, fields)
    assert reconcile(bench.runtime).dead_letters == 1
    assert JOB_ID not in ids(bench)


@pytest.mark.parametrize("source", ["message", "intent"])
def test_operator_may_run_it_all_the_same(bench: Bench, source: str) -> None:
    """A letter that was too old counts from its retry: whoever retries it has looked."""
    asked_for = bench.clock()
    bench.clock.advance(days=2)
    if source == "message":
        late = {wire.HEADER_ENQUEUED_AT: asked_for.timestamp()}
        assert bench.deliver(lambda _message, _runtime: None, headers=late).verdict == "dead_lettered"
    else:
        bench.intend(enqueued_at=str(asked_for.timestamp()))
        reconcile(bench.runtime)
    retry_dead_letter(bench.runtime, list_dead_letters(bench.runtime)[0].id)
    if source == "message":
        assert bench.queue.published == [JOB_ID]
        headers = json.loads(bench.redis.lindex("nightcrew.ledger", 0) or b"")["headers"]
        assert headers[wire.HEADER_ENQUEUED_AT] == bench.clock().timestamp()
    reconcile(bench.runtime)
    assert list_dead_letters(bench.runtime) == []
    assert bench.deliver(lambda _message, _runtime: None).verdict == "succeeded"


def test_late_message_of_a_kept_kind_runs(bench: Bench) -> None:
    """A message that only waited for long is new as long as no run of its kind can have been forgotten."""
    asked_for = {wire.HEADER_ENQUEUED_AT: bench.clock().timestamp()}
    bench.clock.advance(hours=23)
    assert bench.deliver(lambda _message, _runtime: None, headers=asked_for).verdict == "succeeded"


def letter(bench: Bench, number: int, *, age: timedelta, retried: timedelta | None = None) -> dict[str, Any]:
    now = bench.clock()
    return {
        "id": number,
        "source": "nightcrew.ledger",
        "source_id": str(number),
        "reason": "test",
        "body": "{}",
        "received_at": now - age,
        "retried_at": None if retried is None else now - retried,
    }


def test_dead_letters_have_their_time(bench: Bench) -> None:
    """A letter waits half a year for an operator, and stays a month once it was retried."""
    write(
        bench,
        DeadLetter,
        letter(bench, 1, age=timedelta(days=181)),
        letter(bench, 2, age=timedelta(days=179)),
        letter(bench, 3, age=timedelta(days=100), retried=timedelta(days=31)),
        letter(bench, 4, age=timedelta(days=100), retried=timedelta(days=29)),
    )
    assert forget(bench).letters == 2
    assert ids(bench, DeadLetter) == {2, 4}


def test_too_many_dead_letters_are_told(bench: Bench, log: list[Any]) -> None:
    """Over the cap the retried ones go first, then the oldest, and the log says how many."""
    bench.runtime = replace(bench.runtime, ledger=replace(bench.runtime.ledger, max_dead_letters=3))
    day = timedelta(days=1)
    write(bench, DeadLetter, *(letter(bench, number, age=(9 - number) * day) for number in range(1, 6)))
    write(bench, DeadLetter, letter(bench, 6, age=day, retried=day))
    assert reconcile(bench.runtime).letters_dropped == 3
    assert ids(bench, DeadLetter) == {3, 4, 5}
    told = [entry for entry in log if entry["event"] == "ledger.letters_dropped"]
    assert [(entry["log_level"], entry["count"]) for entry in told] == [("error", 3)]


def test_dead_letters_do_not_fill_the_broker(quick_bench: Bench, log: list[Any]) -> None:
    """While nobody takes them in, the older half goes at the cap, and the log says how many."""
    redis, cap_bytes = quick_bench.redis, 200_000
    for number in range(100):
        redis.xadd(wire.DEAD_LETTERS, {"number": number, "body": "x" * 10_000})
        streams.cap_dead_letters(redis, cap_bytes=cap_bytes)
        assert (redis.memory_usage(wire.DEAD_LETTERS, samples=0) or 0) < 2 * cap_bytes
    entries = streams.oldest_entries(redis, wire.DEAD_LETTERS, count=100)
    assert entries[-1][1][b"number"] == b"99"
    told = [entry for entry in log if entry["event"] == "ledger.letters_dropped"]
    assert sum(entry["count"] for entry in told) == 100 - len(entries) > 0


def test_pings_have_their_time(bench: Bench, log: list[Any]) -> None:
    """A ping that was sent goes after a week; one that nobody has sent for two days is given up loudly."""
    now = bench.clock()
    shared = {"entry": "nightly", "run_id": "run", "signal": "start", "try_at": now}
    for number, age, sent_at in (
        (1, 9, now - timedelta(days=8)),
        (2, 9, now - timedelta(days=6)),
        (3, 3, None),
        (4, 1, None),
    ):
        write(bench, Ping, {"id": number, "created_at": now - timedelta(days=age), "sent_at": sent_at, **shared})
    assert forget(bench).pings == 1
    assert ids(bench, Ping) == {2, 3, 4}
    with begin_read(bench.runtime.engine) as connection:
        unsent = connection.scalars(select(Ping.id).where(Ping.sent_at.is_(None))).all()
    assert unsent == [4]
    assert [entry["log_level"] for entry in log if entry["event"] == "ledger.pings_given_up"] == ["error"]
