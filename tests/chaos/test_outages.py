"""A nightly slot whose second falls into an outage runs once and late, or is missed and told, as its entry says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from nightcrew import wire
from nightcrew._redis import connect
from nightcrew.messages import FireSchedule
from tasks.ledger.states import OUTCOMES, State
from tasks.ledger.tables import JobRun, RunEvent, ScheduleState
from tasks.transactions import begin_read, begin_write
from tests.chaos.nightly import (
    CAUGHT_UP,
    EACH,
    GRACE,
    NEVER,
    SLOT_VARIABLE,
    SWITCH_VARIABLE,
    nightly_entries,
)
from tests.chaos.sabotage import Saboteur
from tests.chaos.working import RECONCILE_S, SETTINGS, WorkingCrew, working_crew
from tests.support import wait_until
from tests.support.switch import Switch, listening_switch
from tests.support.waiting import pause
from workers.celery_config import QUEUES, unacked_key

if TYPE_CHECKING:
    from redis import Redis

_START_S = 45.0
"""For the crew to be ready before the slot."""
_MARGIN = timedelta(seconds=2)
_PATIENCE_S = 2 * RECONCILE_S + 30


_OUTAGES = ("broker", "beat", "crew", "message")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "outage", ["worker-ledger", *(pytest.param(name, marks=pytest.mark.chaos) for name in _OUTAGES)]
)
def test_a_nightly_slot_in_an_outage_is_caught_up_or_told(outage: str, seed: int) -> None:
    """A member or the whole crew is away from before the slot until after its grace, or beat's message is lost."""
    slot = far_from_a_reconcile(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=_START_S))
    entries = nightly_entries(slot)
    with (
        listening_switch() as switch,
        working_crew({SLOT_VARIABLE: slot.isoformat(), SWITCH_VARIABLE: switch.url}) as crew,
    ):
        know_since_yesterday(crew, *(entry.name for entry in entries))
        break_down(crew, outage, slot, random.Random(seed))
        due = sum(entry.times for entry in entries)
        wait_until(lambda: len(outcomes(crew, slot)) == due, timeout_s=_PATIENCE_S, what="all outcomes")
        ended = outcomes(crew, slot)
        crew.asked += [run_id for run_id, _ in ended]
        [late], [missed] = ([run_id for run_id, entry in ended if entry == name] for name in (CAUGHT_UP, NEVER))
        crew.assert_exact(expected={missed: State.MISSED})
        assert_shown(crew, late=late, missed=missed)
        assert_told(crew, switch, late=late, missed=missed)


def assert_shown(crew: WorkingCrew, *, late: str, missed: str) -> None:
    """Look at what an operator sees: what is late is called late, and what is missed needs attention."""
    assert nightcrew(crew, "jobs", "show", late)["job"]["late"] is True
    for name, run_id, state, is_late in ((CAUGHT_UP, late, "succeeded", True), (NEVER, missed, "missed", False)):
        [slot] = nightcrew(crew, "schedule", "history", name)["slots"]
        assert (slot["job_id"], slot["state"], slot["late"]) == (run_id, state, is_late)
    assert [slot["late"] for slot in nightcrew(crew, "schedule", "history", EACH)["slots"]] == [True] * 3
    status = nightcrew(crew, "status", code=5)
    [reason] = [one for one in status["reasons"] if one["check"] == "timetable"]
    assert reason["level"] == "error"
    assert reason["detail"].startswith(f"{NEVER} broken: the slot of "), reason
    assert " is missed: " in reason["detail"], reason
    slots = {one["job_id"]: one for one in status["slots"]}
    assert (slots[late]["entry"], slots[late]["is_late"], slots[late]["verdict"]) == (CAUGHT_UP, True, "ok")


def assert_told(crew: WorkingCrew, switch: Switch, *, late: str, missed: str) -> None:
    """Look at what comes by itself: the error in the log, and the signals of the dead-man switch."""
    assert told(crew, missed, entry=NEVER), "nobody was told of the missed slot"
    wait_until(lambda: signals_of(switch, missed) == [f"{NEVER}/fail"], timeout_s=30, what="/fail")
    both = [f"{CAUGHT_UP}/start", CAUGHT_UP]
    wait_until(lambda: signals_of(switch, late) == both, timeout_s=30, what="start and success")


def nightcrew(crew: WorkingCrew, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Ask the command, and check its exit code; with backups in the settings, whose entries it then looks at."""
    env = {**os.environ, **SETTINGS, "NIGHTCREW_BACKUPS__ENABLED": "true"}
    command = [sys.executable, "-m", "workers.cli", *arguments, "--json", "--data-dir", str(crew.directory)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"{arguments}: {done.stderr}{done.stdout}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def far_from_a_reconcile(instant: datetime) -> datetime:
    """Give the instant, or a later one at which no reconcile of the minute fills the slot within its grace."""
    return max(instant, instant.replace(second=10)) if instant.second <= 45 else instant + timedelta(seconds=25)


def signals_of(switch: Switch, run_id: str) -> list[str]:
    """Give what the dead-man switch heard of a run, without the key."""
    return [one.path.split("/", 2)[2] for one in switch.heard if one.rid == run_id]


def break_down(crew: WorkingCrew, outage: str, slot: datetime, chance: random.Random) -> None:
    """Bring the outage about, in time for the slot."""
    if outage == "crew":
        end_the_crew(crew, slot)
    elif outage == "message":
        lose_the_messages(crew, slot)
    else:
        keep_down(crew, outage, slot, chance)


def end_the_crew(crew: WorkingCrew, slot: datetime) -> None:
    """Kill the supervisor and everyone with it before the slot, and start all of them after its grace."""
    wait_for(slot - _MARGIN)
    crew.process.kill()
    wait_for(slot + GRACE + _MARGIN)
    (crew.directory / "beat-schedule.json").unlink(missing_ok=True)  # the walk alone is to find the slots
    crew.process.start()
    crew.process.wait_ready()


def lose_the_messages(crew: WorkingCrew, slot: datetime) -> None:
    """Stop the worker before the slot, take beat's messages away, and kill it: nobody ever has them."""
    record = crew.process.record()
    assert record is not None
    worker = psutil.Process(record.children["worker-ledger"])
    family = [worker, *worker.children(recursive=True)]
    wait_for(slot - _MARGIN)
    for one in family:
        one.send_signal(signal.SIGSTOP)
    with connect(crew.url, timeout_s=5) as redis:
        take_away(redis, slot)
    for one in family:
        os.kill(one.pid, signal.SIGKILL)
    with begin_read(crew.engine) as connection:
        made = connection.scalars(sa.select(JobRun.id).where(JobRun.slot_at >= slot, JobRun.kind.like("chaos.%")))
        assert made.all() == [], "the message was not lost"


def take_away(redis: Redis, slot: datetime) -> None:
    """Remove what beat has sent of all of the slots, once it is there; nobody waits for it since the worker stopped."""
    last = {CAUGHT_UP: slot, NEVER: slot, EACH: slot + _MARGIN}

    def newest() -> dict[str, datetime]:
        return {entry: sent_at for sent_at, entry, _ in sorted(sent_by_beat(redis)) if entry in last}

    def all_sent() -> bool:
        return newest().keys() == last.keys() and all(newest()[entry] >= at for entry, at in last.items())

    wait_until(all_sent, timeout_s=_START_S, what="beat's messages")
    gone = [(entry, redis.lrem(QUEUES["ledger"], 0, raw)) for _, entry, raw in sent_by_beat(redis) if entry in last]
    assert {*gone} == {(entry, 1) for entry in last}, f"taken away: {gone}"
    held = [json.loads(stored)[0]["headers"] for stored in redis.hvals(unacked_key("ledger"))]
    mine = [one for one in held if one["task"] == FireSchedule.kind and entry_of(one) in last]
    assert mine == [], "the worker had a message already, which would come back to the next one"


def sent_by_beat(redis: Redis) -> list[tuple[datetime, str, str]]:
    """Give beat's messages that nobody has taken: when each was sent, of which entry, and the whole."""
    raws = cast("list[Any]", redis.lrange(QUEUES["ledger"], 0, -1))
    items = [(json.loads(raw)["headers"], raw) for raw in raws]
    return [
        (datetime.fromtimestamp(headers[wire.HEADER_ENQUEUED_AT], UTC), entry_of(headers), raw)
        for headers, raw in items
        if headers["task"] == FireSchedule.kind
    ]


def entry_of(headers: dict[str, Any]) -> str:
    """Name the entry of a message of beat's."""
    return str(headers["kwargsrepr"]).removeprefix("{entry=").removesuffix("}")


def wait_for(instant: datetime) -> None:
    """Let the time pass until then."""
    left_s = (instant - datetime.now(UTC)).total_seconds()
    assert left_s > 0, "the crew was not ready in time"
    pause(left_s)


def know_since_yesterday(crew: WorkingCrew, *names: str) -> None:
    """Let the ledger have seen the entries before: the past of an entry that is new is nobody's fault.

    The crew may have walked its timetable already, and then it knows them by itself.
    """
    now = datetime.now(UTC)
    unknown = sqlite.insert(ScheduleState).on_conflict_do_nothing()
    with begin_write(crew.engine) as connection:
        connection.execute(unknown, [{"name": name, "walked_until": now} for name in names])


def keep_down(crew: WorkingCrew, member: str, slot: datetime, chance: random.Random) -> None:
    """Kill a member whenever it comes back, from shortly before the slot until after its grace."""
    saboteur, begins_at = Saboteur(crew.process, chance), slot - _MARGIN
    wait_for(begins_at)
    while datetime.now(UTC) < slot + GRACE + _MARGIN:
        saboteur.kill_whole(member)
        if member == "beat":  # or it would remember by itself that it has not sent the slot
            (crew.directory / "beat-schedule.json").unlink(missing_ok=True)
    assert not outcomes(crew, slot), "the slot was not in the outage"


def outcomes(crew: WorkingCrew, slot: datetime) -> list[tuple[str, str | None]]:
    """Give the runs of the night that have ended, each with its entry."""
    query = sa.select(JobRun.id, JobRun.entry).where(
        JobRun.slot_at >= slot, JobRun.kind.like("chaos.%"), JobRun.state.in_(sorted(OUTCOMES))
    )
    with begin_read(crew.engine) as connection:
        return [(run_id, entry) for run_id, entry in connection.execute(query)]


def told(crew: WorkingCrew, run_id: str, *, entry: str) -> bool:
    """Say whether the timeline gives a reason and the worker's log has the error, with the name of the entry."""
    query = sa.select(RunEvent.detail).where(RunEvent.run_id == run_id, RunEvent.event == "missed")
    with begin_read(crew.engine) as connection:
        reasons = connection.scalars(query).all()
    log = (crew.directory / "logs" / "worker-ledger.log").read_text(encoding="utf-8").splitlines()
    errors = [line for line in log if "ledger.slots_missed" in line or "ledger.run_missed" in line]
    return bool(reasons and reasons[0]) and any(entry in line for line in errors)
