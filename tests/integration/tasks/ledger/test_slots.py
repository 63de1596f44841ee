"""Every slot of the timetable gets one run and one outcome, whoever is away when it begins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import text

from nightcrew.messages import FireSchedule, RunCanary
from schedules.entries import Entry
from tasks.errors import PermanentError, TransientError
from tasks.ledger.catching_up import Pause
from tasks.ledger.firing import fire_slot, make_run_now, newest_slot_run
from tasks.ledger.jobs import fire_schedule
from tasks.ledger.operations import list_runs
from tasks.ledger.overview import look_at, read_history
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.store import slots
from tasks.ledger.walking import walk_entry, walk_timetable
from tests.integration.tasks.ledger.conftest import MinuteEntry
from tests.support import wait_until

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime
    from tests.integration.tasks.ledger.conftest import Bench

CatchUp = Literal["none", "last", "all"]
EVENING = datetime(2026, 3, 1, 20, tzinfo=UTC)
SLOT = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
MORNING = datetime(2026, 3, 2, 6, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def nightly(catch_up: CatchUp = "last", **changes: Any) -> Entry:
    fields: dict[str, Any] = {"name": "nightly", "cron": "30 2 * * *", "grace": HOUR, "max_duration": HOUR, **changes}
    return Entry(message=RunCanary(), catch_up=catch_up, **fields)


def evening(bench: Bench, *entries: Entry) -> None:
    """Have a crew that knows its timetable and waits for the night."""
    bench.follow(*entries)
    bench.clock.now = EVENING
    reconcile(bench.runtime)


def done(_message: object, _runtime: Runtime) -> str:
    return "done"


def rows(bench: Bench, entry: str = "nightly") -> dict[datetime, Run]:
    found = {run.slot_at: run for run in slots.history(bench.runtime.engine, entry, limit=10_000) if run.slot_at}
    assert len(found) == len(slots.history(bench.runtime.engine, entry, limit=10_000))
    return found


def states(bench: Bench, entry: str = "nightly") -> list[str]:
    return [str(run.state) for _, run in sorted(rows(bench, entry).items())]


def walked_until(bench: Bench, entry: str = "nightly") -> datetime:
    return slots.states(bench.runtime.engine)[entry].walked_until


def errors(log: list[Any], event: str) -> list[Any]:
    return [line for line in log if (line["log_level"], line["event"]) == ("error", event)]


def test_slot_has_one_run(bench: Bench) -> None:
    """Whoever fires a slot, and how often: one run, one message. The next slot has another."""
    bench.follow(MinuteEntry(name="canary", message=RunCanary()))
    for second in (0, 20, 59):
        bench.clock.now = bench.clock.now.replace(second=second)
        fire_schedule(FireSchedule(entry="canary"), bench.runtime)
    [run] = list_runs(bench.runtime)
    assert (run.kind, run.dedup_key, run.state) == ("ledger.canary", "canary:2026-03-01T12:00:00+00:00", "queued")
    assert (run.entry, run.slot_at, run.late_after) == ("canary", bench.clock.now.replace(second=0), run.start_before)
    assert bench.queue.published == [run.id]
    bench.clock.advance(minutes=1)
    fire_schedule(FireSchedule(entry="canary"), bench.runtime)
    assert len(list_runs(bench.runtime)) == 2
    newest = newest_slot_run(bench.runtime.timetable["canary"], bench.runtime)
    assert newest is not None
    assert newest.dedup_key == "canary:2026-03-01T12:01:00+00:00"


def test_slot_of_a_doorbell_ends_with_an_outcome(quick_bench: Bench) -> None:
    """The safety net of a doorbell is a run like that of any slot, and its message ends it."""
    bench = quick_bench
    bench.follow(MinuteEntry(name="drain", message=RunCanary()))
    fire_schedule(FireSchedule(entry="drain"), bench.runtime)
    [run] = list_runs(bench.runtime)
    assert bench.deliver(done, job_id=run.id, row_optional=True).verdict == "succeeded"
    assert bench.run(run.id).state is State.SUCCEEDED


def test_unknown_entry_is_a_permanent_error(quick_bench: Bench) -> None:
    """An entry that is not in the timetable is named, with those that are."""
    quick_bench.follow(nightly(), nightly(name="weekly"))
    with pytest.raises(PermanentError, match="nightly, weekly"):
        fire_schedule(FireSchedule(entry="hourly"), quick_bench.runtime)


def test_a_new_crew_has_no_past(bench: Bench, log: list[Any]) -> None:
    """The first walk writes nothing about slots from before there was anybody, and what comes next is fired."""
    evening(bench, nightly(), nightly("none", name="never"), nightly("all", name="each"))
    assert list_runs(bench.runtime) == []
    assert not errors(log, "ledger.slots_missed")
    bench.clock.now = SLOT
    assert reconcile(bench.runtime).slots_fired == 3


def test_an_entry_that_left_the_timetable_is_remembered(quick_bench: Bench) -> None:
    """Taken out it is not walked any more; put back it goes on where it was left, by its rule."""
    bench = quick_bench
    evening(bench, nightly(), nightly(name="gone"))
    bench.follow(nightly())
    bench.clock.now = MORNING + DAY
    walk_timetable(bench.runtime)
    assert (states(bench), states(bench, "gone")) == (["missed", "queued"], [])
    assert walked_until(bench, "gone") == EVENING


@pytest.mark.parametrize("outage", ["beat", "broker", "worker"])
def test_a_nightly_slot_in_an_outage_runs_once_and_late(bench: Bench, outage: str, log: list[Any]) -> None:
    """Whoever was away at half past two: the slot runs when it is over, once, and is marked late."""
    evening(bench, nightly())
    bench.clock.now = SLOT
    bench.queue.is_away = outage == "broker"
    if outage == "broker":
        with pytest.raises(TransientError):
            fire_slot(nightly(), bench.runtime)
    elif outage == "worker":
        fire_slot(nightly(), bench.runtime)
    bench.clock.now, bench.queue.is_away = MORNING, False
    report = reconcile(bench.runtime)
    assert (report.slots_fired, report.slots_fired_late, report.slots_missed) == (
        (1, 1, 0) if outage == "beat" else (0, 0, 0)
    )
    [run] = rows(bench).values()
    assert set(bench.queue.published) == {run.id}
    assert [bench.deliver(done, job_id=run.id).verdict for _ in range(2)] == ["succeeded", "skipped"]
    assert (bench.run(run.id).is_late, bench.run(run.id).to_json()["late"]) == (True, True)
    reconcile(bench.runtime)
    assert states(bench) == ["succeeded"]
    assert not errors(log, "ledger.slots_missed")


@pytest.mark.parametrize("outage", ["beat", "worker"])
def test_a_slot_that_may_not_be_late_is_missed_and_told(bench: Bench, outage: str, log: list[Any]) -> None:
    """With `catch_up = none` it is missed: the ledger, the log and the judgement say so, and it does not run."""
    evening(bench, nightly("none"))
    bench.clock.now = SLOT
    if outage == "worker":
        fire_slot(nightly("none"), bench.runtime)
    bench.clock.now = MORNING
    reconcile(bench.runtime)
    [run] = rows(bench).values()
    if outage == "worker":
        bench.deliver(done, job_id=run.id)
    assert (states(bench), bench.run(run.id).attempt) == (["missed"], 0)
    [standing] = look_at([nightly("none")], bench.runtime)
    assert (standing.judgement.verdict, "2026-03-02T02:30Z is missed" in standing.judgement.reasons[0]) == (
        "broken",
        True,
    )
    if outage == "beat":
        [told] = errors(log, "ledger.slots_missed")
        assert (told["entry"], told["count"], told["reason"]) == (
            "nightly",
            1,
            "nobody fired it within its grace of 1:00:00",
        )


def test_an_outage_of_days_is_told_once(bench: Bench, log: list[Any]) -> None:
    """Ten nights: by the rule of the entry; the log has one line for each entry, with count, first, last and why."""
    evening(bench, nightly(), nightly("none", name="never"), nightly("all", name="each"))
    bench.clock.now = MORNING + 9 * DAY
    report = reconcile(bench.runtime)
    assert (report.slots_fired, report.slots_fired_late, report.slots_missed) == (11, 11, 19)
    assert states(bench) == ["missed"] * 9 + ["queued"]
    assert states(bench, "never") == ["missed"] * 10
    assert states(bench, "each") == ["queued"] * 10
    told = {line["entry"]: line for line in errors(log, "ledger.slots_missed")}
    assert set(told) == {"nightly", "never"}
    assert (told["nightly"]["count"], told["nightly"]["first"], told["nightly"]["last"]) == (
        9,
        SLOT.isoformat(),
        (SLOT + 8 * DAY).isoformat(),
    )
    assert told["nightly"]["reason"] == "superseded by the slot of 2026-03-11T02:30Z"
    assert reconcile(bench.runtime).slots_missed == 0
    assert len(errors(log, "ledger.slots_missed")) == 2


def test_walkers_may_meet(bench: Bench) -> None:
    """Four walks of the same outage at once make one row and one message of each slot."""
    entry = nightly("all", cron="*/5 * * * *")
    evening(bench, entry)
    bench.clock.advance(days=3)
    with ThreadPoolExecutor(4) as pool:
        walks = list(pool.map(lambda _: walk_entry(entry, bench.runtime), range(4)))
    expected = list(entry.slots_between(EVENING, bench.clock.now))
    assert len(expected) == 864
    assert sorted(rows(bench)) == expected
    assert sum(len(walk.fired) for walk in walks) == 864
    assert sorted(bench.queue.published) == sorted(run.id for run in rows(bench).values())


def test_a_walk_waits_for_whoever_has_the_entry(bench: Bench) -> None:
    """A walk that begins while somebody pauses the entry sees the pause, and fires nothing."""
    evening(bench, nightly())
    bench.clock.now = SLOT
    engine = bench.runtime.engine
    with ThreadPoolExecutor(1) as pool:
        with slots.locked_entry(engine, "nightly", begins_at=EVENING) as locked:
            walk = pool.submit(walk_entry, nightly(), bench.runtime)
            wait_until(lambda: walk.done() or _somebody_waits(engine), timeout_s=20, what="the walk to begin")
            locked.set_pause(Pause(since=EVENING, until=MORNING, reason="moving house", by="ada"))
        assert (walk.result().fired, walk.result().called_off) == ([], 1)


def _somebody_waits(engine: Engine) -> bool:
    if engine.dialect.name == "sqlite":
        return True  # nobody can see it there, and nobody needs to: there is one writer at a time
    with engine.connect() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(connection.exec_driver_sql(waiting).scalar_one())


def test_a_newer_slot_takes_the_place_of_one_that_waits(bench: Bench, log: list[Any]) -> None:
    """A run of last night that nobody has begun is missed when tonight's is fired; with `all` both run."""
    evening(bench, nightly(), nightly("all", name="each"))
    for night in range(2):
        bench.clock.now = SLOT + night * DAY
        walk_timetable(bench.runtime)
    assert (states(bench), states(bench, "each")) == (["missed", "queued"], ["queued", "queued"])
    assert rows(bench)[SLOT].error == "superseded by the slot of 2026-03-03T02:30Z"
    assert [line["entry"] for line in errors(log, "ledger.slots_missed")] == ["nightly"]


def test_a_slot_that_has_begun_is_not_superseded(quick_bench: Bench) -> None:
    """A run that failed once and waits for its next try is no idle one, and one that runs is left alone."""
    bench = quick_bench
    evening(bench, nightly())
    bench.clock.now = SLOT
    [walk] = walk_timetable(bench.runtime)

    def fails(_message: object, _runtime: Runtime) -> None:
        msg = "world in the way"
        raise TransientError(msg)

    bench.deliver(fails, job_id=walk.fired[0].id)
    assert states(bench) == ["queued"]
    bench.clock.now = SLOT + DAY
    walk_timetable(bench.runtime)
    assert states(bench) == ["queued", "queued"]


def test_a_walk_that_fails_leaves_nothing_out(bench: Bench) -> None:
    """A batch and how far it got are one transaction: what could not be written is walked again."""
    evening(bench, nightly("all"))
    bench.clock.now = MORNING
    with bench.runtime.engine.begin() as connection:
        connection.execute(text("ALTER TABLE job_runs RENAME TO hidden_runs"))
    with pytest.raises(PermanentError):
        walk_timetable(bench.runtime)
    with bench.runtime.engine.begin() as connection:
        connection.execute(text("ALTER TABLE hidden_runs RENAME TO job_runs"))
    assert walked_until(bench) == EVENING
    walk_timetable(bench.runtime)
    assert states(bench) == ["queued"]


def test_a_broker_that_is_away_loses_no_slot(quick_bench: Bench) -> None:
    """The run of a slot whose message could not be published is in the ledger, and the reconciler publishes it."""
    bench = quick_bench
    evening(bench, nightly(), nightly("all", name="each"))
    bench.clock.now, bench.queue.is_away = MORNING, True
    with pytest.raises(TransientError):
        walk_timetable(bench.runtime)
    assert (states(bench), states(bench, "each")) == (["queued"], ["queued"])
    bench.queue.is_away = False
    bench.clock.advance(seconds=61)
    assert reconcile(bench.runtime).republished == 2


def test_a_long_outage_is_walked_in_batches(quick_bench: Bench) -> None:
    """More slots than a batch holds: each has its row, and only the newest fires."""
    bench = quick_bench
    entry = nightly("last", cron="* * * * *")
    evening(bench, entry)
    bench.clock.advance(hours=20)
    walk = walk_entry(entry, bench.runtime)
    assert (walk.missed, len(walk.fired), len(rows(bench))) == (1199, 1, 1200)
    assert walk.fired[0].slot_at == bench.clock.now


def test_a_run_now_is_of_the_slot_at_hand_or_of_none(bench: Bench) -> None:
    """The run that is given is the run that is made, also at the turn of the minute."""
    entry = MinuteEntry(name="canary", message=RunCanary())
    bench.follow(entry)
    first, second = (make_run_now(entry, bench.runtime) for _ in range(2))
    assert (first.slot_at, second.slot_at, second.entry) == (bench.clock.now, None, None)
    bench.clock.now += timedelta(seconds=59, microseconds=999_999)
    third = make_run_now(entry, bench.runtime)
    bench.clock.now += timedelta(microseconds=1)
    fourth = make_run_now(entry, bench.runtime)
    assert (third.slot_at, fourth.slot_at) == (None, bench.clock.now)
    assert {run.id for run in list_runs(bench.runtime)} == {run.id for run in (first, second, third, fourth)}


def test_the_watched_are_marked(quick_bench: Bench) -> None:
    """A run of an entry that a dead-man switch hears of carries the mark from its first moment."""
    bench = quick_bench
    evening(bench, nightly(), nightly(name="alone"))
    options = replace(bench.runtime.ledger, watched_entries=frozenset({"nightly"}))
    bench.runtime = replace(bench.runtime, ledger=options)
    bench.clock.now = SLOT
    walk_timetable(bench.runtime)
    assert [rows(bench, name)[SLOT].watched for name in ("nightly", "alone")] == [True, False]


def test_the_history_tells_how_the_nights_went(bench: Bench) -> None:
    """Newest first: outcome, lateness, duration, attempts and error of each slot."""
    evening(bench, nightly())
    bench.clock.now = SLOT + timedelta(minutes=2)
    run = fire_slot(nightly(), bench.runtime)
    assert run is not None

    def takes_ten_minutes(_message: object, _runtime: Runtime) -> None:
        bench.clock.advance(minutes=10)

    bench.deliver(takes_ten_minutes, job_id=run.id)
    bench.clock.now = MORNING + 2 * DAY
    walk_timetable(bench.runtime)
    newest, lost, good = read_history("nightly", bench.runtime, limit=10)
    assert (good.state, good.is_late, good.late_by, good.duration, good.attempt) == (
        State.SUCCEEDED,
        False,
        timedelta(minutes=2),
        timedelta(minutes=10),
        1,
    )
    assert (lost.state, lost.duration, lost.error) == (
        State.MISSED,
        None,
        "superseded by the slot of 2026-03-04T02:30Z",
    )
    assert (newest.state, newest.started_at, newest.duration) == (State.QUEUED, None, None)
