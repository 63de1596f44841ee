"""What an operator does to many runs at once, and sees of one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from nightcrew import wire
from nightcrew.messages import RunCanary
from tasks.errors import PermanentError
from tasks.ledger.dead_letters import letter_of_message
from tasks.ledger.events import Event
from tasks.ledger.filters import Filter, LetterFilter
from tasks.ledger.operations import (
    cancel_runs,
    find_run,
    list_dead_letters,
    list_runs,
    look_at_live,
    look_at_runs,
    plan_cancels,
    plan_letters,
    plan_retries,
    retry_dead_letters,
    retry_runs,
    select_dead_letters,
    select_runs,
    take_in_new,
    tell_story,
)
from tasks.ledger.operations.finding import BATCH
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.runs import wanted_run
from tasks.ledger.states import Move, State
from tasks.ledger.store import runs, streams
from tests.integration.tasks.ledger.conftest import JOB_ID, OTHER_ID, START

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.ledger.runs import WantedRun
    from tasks.ledger.treatments import Treatment
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench

LATER_ID = "01931f2e-5f6a-7abc-8def-0123456789ad"


def refuse(_message: object, _runtime: Runtime) -> NoReturn:
    msg = "No 100% match"
    raise PermanentError(msg)


def wanted(number: int, **fields: Any) -> WantedRun:
    made = wanted_run(
        job_id=f"01931f2e-5f6a-7abc-8def-{number:012}",
        kind=RunCanary.kind,
        payload={},
        dedup_key=None,
        correlation_id=None,
        enqueued_at=START,
    )
    return replace(made, **fields)


def insert(bench: Bench, *new: WantedRun) -> list[str]:
    found = runs.insert(bench.runtime.engine, new, now=bench.clock(), republish_after=timedelta(minutes=1))
    return [run.id for run in found]


def insert_dead(bench: Bench, count: int) -> list[str]:
    ids = insert(bench, *(wanted(number) for number in range(count)))
    for run_id in ids:
        move = Move(to=State.DEAD, reason="4 of 4 attempts are used up")
        assert runs.end(bench.runtime.engine, bench.run(run_id), move=move, now=bench.clock())
    return ids


def claim(bench: Bench, run: WantedRun, *, worker: str = "ledger@test") -> None:
    lease = bench.runtime.ledger.lease
    taken = runs.claim(bench.runtime.engine, run, now=bench.clock(), worker=worker, lease=lease, max_attempts=4)
    assert taken.taken


def told(parts: Iterable[list[Treatment]]) -> dict[str, tuple[str, State]]:
    return {one.id: (one.action, one.state) for one in chain.from_iterable(parts)}


def cancelled(bench: Bench, *run_ids: str, reason: str = "wrong input") -> dict[str, tuple[str, State]]:
    return told(cancel_runs(bench.runtime, run_ids, reason=reason, by="ana@desk"))


def test_each_part_of_a_filter_narrows(bench: Bench) -> None:
    """State, kind, time, entry, correlation, parent and error, alone and together."""
    insert(bench, wanted(1, entry="nightly", slot_at=START), wanted(2, parent_id=JOB_ID))
    bench.clock.advance(hours=1)
    bench.deliver(refuse)
    insert(bench, wanted(3, kind="usage.drain", correlation_id="order 7"))
    one, two, three = (wanted(number).id for number in (1, 2, 3))
    expected = {
        Filter(): {one, two, three, JOB_ID},
        Filter(states=frozenset({State.FAILED})): {JOB_ID},
        Filter(states=frozenset({State.FAILED, State.QUEUED})): {one, two, three, JOB_ID},
        Filter(kind="usage.drain"): {three},
        Filter(since=bench.clock()): {three, JOB_ID},
        Filter(until=bench.clock()): {one, two},
        Filter(entry="nightly"): {one},
        Filter(correlation_id="order 7"): {three},
        Filter(parent_id=JOB_ID): {two},
        Filter(error="100% MATCH"): {JOB_ID},
        Filter(error="100_"): set(),
        Filter(kind=RunCanary.kind, states=frozenset({State.QUEUED}), since=bench.clock()): set(),
    }
    for asked, ids in expected.items():
        assert set(select_runs(bench.runtime, asked)) == ids, asked
        assert {run.id for run in list_runs(bench.runtime, asked)} == ids, asked
    assert select_runs(bench.runtime, Filter(), limit=1) == [one]


def test_many_dead_runs_are_retried_in_batches(bench: Bench) -> None:
    """Each gets its message and its event, in transactions of a bounded size; nothing happens in a plan."""
    ids = insert_dead(bench, BATCH + 20)
    assert {one.action for one in chain.from_iterable(plan_retries(bench.runtime, ids))} == {"retry"}
    assert ({bench.run(ids[0]).state}, bench.queue.published) == ({State.DEAD}, [])
    parts = list(retry_runs(bench.runtime, ids, by="ana@desk"))
    assert [len(part) for part in parts] == [BATCH, 20]
    assert set(told(parts).values()) == {("retry", State.QUEUED)}
    assert sorted(bench.queue.published) == ids
    story = tell_story(bench.runtime, bench.run(ids[-1]))
    assert [(event.event, event.detail) for event in story.events][-1] == (Event.RESTARTED, "retried by ana@desk")


def test_a_retry_refuses_what_has_not_failed(bench: Bench) -> None:
    """Also what has changed since it was selected; the others go all the same."""
    [dead] = insert_dead(bench, 1)
    [queued] = insert(bench, wanted(7))
    answer = told(retry_runs(bench.runtime, [dead, queued, JOB_ID], by="ana@desk"))
    assert answer == {dead: ("retry", State.QUEUED), queued: ("refuse", State.QUEUED)}
    assert told(retry_runs(bench.runtime, [dead], by="ana@desk")) == {dead: ("refuse", State.QUEUED)}


def test_a_retry_without_a_broker_is_made_up_for(bench: Bench) -> None:
    """The runs are queued, every one of them names the problem, and the reconciler publishes them."""
    ids = insert_dead(bench, BATCH + 5)
    bench.queue.is_away = True
    parts = list(retry_runs(bench.runtime, ids, by="ana@desk"))
    assert {one.problem for part in parts for one in part} == {"its message is not out yet: broker is away"}
    assert {one.state for part in parts for one in part} == {State.QUEUED}
    bench.queue.is_away = False
    reconcile(bench.runtime)
    assert sorted(bench.queue.published) == ids


def test_cancel_ends_what_waits_and_asks_what_works(bench: Bench) -> None:
    """Who and why stands with the run; what has ended is refused."""
    insert(bench, wanted(1))
    claim(bench, wanted(2))
    bench.deliver(refuse)
    waiting, working = wanted(1).id, wanted(2).id
    ids = [waiting, working, JOB_ID]
    plan = told(plan_cancels(bench.runtime, ids))
    assert {run_id: action for run_id, (action, _) in plan.items()} == {
        waiting: "cancel",
        working: "request",
        JOB_ID: "refuse",
    }
    assert bench.run(waiting).state is State.QUEUED
    assert cancelled(bench, *ids) == {
        waiting: ("cancel", State.CANCELLED),
        working: ("request", State.RUNNING),
        JOB_ID: ("refuse", State.FAILED),
    }
    assert bench.run(waiting).error == "wrong input (by ana@desk)"
    assert bench.run(working).cancel_reason == "wrong input (by ana@desk)"
    assert bench.mirror(waiting)["state"] == "cancelled"
    assert cancelled(bench, working) == {working: ("wait", State.RUNNING)}


def test_cancel_takes_the_children_along(bench: Bench) -> None:
    """To any depth, also where parent and child were both selected: neither is refused for the other's sake."""
    claim(bench, wanted(1))
    insert(bench, wanted(2, parent_id=wanted(1).id), wanted(3, parent_id=wanted(2).id), wanted(4))
    claim(bench, wanted(3))
    parent, child, grandchild, stranger = (wanted(number).id for number in (1, 2, 3, 4))
    assert cancelled(bench, parent, child) == {
        parent: ("request", State.RUNNING),
        child: ("cancel", State.CANCELLED),
        grandchild: ("request", State.RUNNING),
    }
    assert bench.run(grandchild).cancel_requested_at is not None
    assert bench.run(stranger).state is State.QUEUED


def test_cancel_needs_no_broker(quick_bench: Bench) -> None:
    """What is asked stands in the database; the problem is told, and made up for."""
    bench = quick_bench
    [run_id] = insert(bench, wanted(1))
    address = {"unix_socket_path": "/nowhere/redis.sock"}
    away = type(bench.redis)(**address)  # type: ignore[arg-type]
    runtime = replace(bench.runtime, redis=away)
    [[one]] = list(cancel_runs(runtime, [run_id], reason="wrong", by="ana@desk"))
    assert one.state is State.CANCELLED
    assert (one.problem or "").startswith("apps do not see it yet")
    assert (take_in_new(runtime) or "").startswith("broker is in the way")
    reconcile(bench.runtime)
    assert bench.mirror(run_id)["state"] == "cancelled"


def test_a_job_just_asked_for_is_found_and_called_off(quick_bench: Bench) -> None:
    """Its intent is taken in first: what the ledger does not know yet would run all the same."""
    bench = quick_bench
    bench.intend()
    assert find_run(bench.runtime, JOB_ID).state is State.QUEUED
    bench.intend(OTHER_ID)
    assert take_in_new(bench.runtime) is None
    assert select_runs(bench.runtime, Filter(kind=RunCanary.kind)) == [JOB_ID, OTHER_ID]


def test_the_story_has_everything(bench: Bench) -> None:
    """Attempts on two workers, parent, children, leases and letters of a run."""
    insert(bench, wanted(1), wanted(3, parent_id=wanted(2).id), wanted(4, parent_id=wanted(3).id))
    mine = wanted(2, parent_id=wanted(1).id)
    claim(bench, mine, worker="first")
    bench.clock.advance(minutes=5)
    runs.claim(
        bench.runtime.engine,
        mine,
        now=bench.clock(),
        worker="second",
        lease=timedelta(minutes=1),
        max_attempts=4,
        exclusive=["vault"],
    )
    headers = {"id": mine.id, "task": mine.kind}
    letter = letter_of_message(
        source="nightcrew.ledger", headers=headers, payload={}, reason="no such field", received_at=START
    )
    streams.append_dead_letter(bench.redis, letter)
    list_dead_letters(bench.runtime)
    story = tell_story(bench.runtime, bench.run(mine.id))
    assert [(event.event, event.worker, event.attempt) for event in story.events] == [
        (Event.QUEUED, None, 0),
        (Event.STARTED, "first", 1),
        (Event.STARTED, "second", 2),
    ]
    assert story.parent is not None
    assert story.parent.id == wanted(1).id
    [child] = story.children
    assert (child.run.id, [branch.run.id for branch in child.branches]) == (wanted(3).id, [wanted(4).id])
    assert [(lease.resource, lease.run_id) for lease in story.leases] == [("vault", mine.id)]
    assert [letter.reason for letter in story.dead_letters] == ["no such field"]
    assert (story.place, story.next_try_at) == (None, None)


def test_a_family_in_a_circle_is_shown_once(bench: Bench) -> None:
    """Rows that were mended by hand into a circle keep nobody waiting."""
    insert(bench, wanted(1, parent_id=wanted(2).id), wanted(2, parent_id=wanted(1).id))
    [child] = tell_story(bench.runtime, bench.run(wanted(1).id)).children
    assert (child.run.id, child.branches) == (wanted(2).id, ())


def test_a_waiting_run_shows_its_place(bench: Bench) -> None:
    """How many are before it, or when it gets its next message."""
    insert(bench, wanted(1, enqueued_at=START - timedelta(seconds=20)))
    insert(bench, wanted(2, enqueued_at=START - timedelta(seconds=10)))
    story = tell_story(bench.runtime, bench.run(wanted(2).id))
    assert story.place is not None
    assert story.place.to_json() | {"published_at": None} == {
        "queue": "nightcrew.ledger",
        "published_at": None,
        "age_s": 10.0,
        "ahead": 1,
    }
    [dead] = insert_dead(bench, 1)
    bench.queue.is_away = True
    list(retry_runs(bench.runtime, [dead], by="ana@desk"))
    story = tell_story(bench.runtime, bench.run(dead))
    assert (story.place, story.next_try_at) == (None, bench.clock())


def test_what_lives_is_seen_in_the_order_of_its_work(bench: Bench) -> None:
    """Those at work first, then those that wait; what has ended only by its id."""
    insert(bench, wanted(1))
    bench.clock.advance(seconds=1)
    claim(bench, wanted(2))
    bench.deliver(refuse)
    live = look_at_live(bench.runtime, limit=10)
    assert [(sight.run.id, sight.run.state, sight.ahead) for sight in live] == [
        (wanted(2).id, State.RUNNING, None),
        (wanted(1).id, State.QUEUED, 0),
    ]
    assert len(look_at_live(bench.runtime, limit=1)) == 1
    assert [sight.run.id for sight in look_at_runs(bench.runtime, [JOB_ID, LATER_ID])] == [JOB_ID]


_INTENT = json.dumps({"v": "1", "id": JOB_ID, "kind": RunCanary.kind, "payload": "{}", "enqueued_at": "1767225600"})


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (LetterFilter(), 3),
        (LetterFilter(source="nightcrew.ledger"), 2),
        (LetterFilter(kind="a.b"), 1),
        (LetterFilter(reason="TOO 100%"), 1),
        (LetterFilter(reason="nothing like it"), 0),
    ],
)
def test_letters_are_tried_again_by_filter(quick_bench: Bench, asked: LetterFilter, count: int) -> None:
    """Only those that pass; a plan says the same of each, and does nothing."""
    bench = quick_bench
    for number, (source, kind, reason) in enumerate(
        [("nightcrew.ledger", RunCanary.kind, "too 100%"), ("nightcrew.ledger", "a.b", "?"), (wire.INTENTS, None, "?")]
    ):
        headers = {"id": wanted(number).id, "task": kind}
        letter = letter_of_message(source=source, headers=headers, payload={}, reason=reason, received_at=START)
        body = _INTENT if source == wire.INTENTS else letter.body
        streams.append_dead_letter(bench.redis, replace(letter, body=body))
    numbers = select_dead_letters(bench.runtime, asked)
    planned = list(plan_letters(bench.runtime, numbers))
    assert (len(numbers), bench.queue.published) == (count, [])
    done = list(retry_dead_letters(bench.runtime, numbers))
    assert [one.accepted for one in done] == [one.accepted for one in planned]
    assert [one.accepted for one in done] == [one.kind != "a.b" for one in done]
    assert len(list_dead_letters(bench.runtime)) == 3 - sum(one.accepted for one in done)
