"""`nightcrew schedule` on a real database and a real broker, without workers."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from schedules.timetable import EVERY_ENTRY
from tasks.ledger.firing import fire_slot
from tasks.ledger.states import Move, State
from tasks.ledger.store import runs
from tasks.ledger.walking import walk_entry
from tests.support.databases import opened_engine
from tests.support.redis import running_redis
from workers.cli.context import open_crew
from workers.envelope import read_item, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.runtime import Runtime
    from tests.integration.workers.cli.conftest import Command
    from tests.support.redis import RedisServer

DRAIN = EVERY_ENTRY["usage-drain"]
MINUTE = timedelta(minutes=1)
ME = pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def ledger(data_dir: Path, *, at: datetime) -> Iterator[Runtime]:
    """Give what a worker has, at a moment."""
    with open_crew(data_dir) as crew:
        yield replace(crew.runtime, clock=lambda: at)


def run_slot(data_dir: Path, *, at: datetime, took: timedelta = MINUTE, fails: str = "") -> None:
    """Fire the slot of a minute and work on it as a worker does."""
    with ledger(data_dir, at=at) as runtime:
        run = fire_slot(DRAIN, runtime)
        assert run is not None
        claim = {"worker": "w", "lease": MINUTE, "max_attempts": 1}
        taken = runs.claim(runtime.engine, cast("Any", run), now=at, **cast("Any", claim)).run
        assert taken is not None
        if fails:
            runs.end(runtime.engine, taken, move=Move(to=State.FAILED, reason=fails), now=at + took)
        else:
            runs.succeed(runtime.engine, taken, result=None, now=at + took)


def test_the_list_says_how_each_entry_is_doing(nightcrew: Command) -> None:
    """Before anything ran there is nothing to say; later the newest slot, what is wrong, and who paused what."""
    entries = {one["entry"]: one for one in nightcrew("schedule", "list")["entries"]}
    assert {"usage-drain", "ledger-reconcile"} <= set(entries)
    assert {(one["last"], one["paused"], one["verdict"]) for one in entries.values()} == {(None, None, "ok")}
    now = datetime.now(UTC)
    run_slot(nightcrew.data_dir, at=now - 20 * MINUTE, fails="disk full")
    nightcrew("schedule", "pause", "ledger-reconcile", "--for", "2h", "--reason", "moving")
    entries = {one["entry"]: one for one in nightcrew("schedule", "list")["entries"]}
    drain, reconcile = entries["usage-drain"], entries["ledger-reconcile"]
    assert (drain["verdict"], len(drain["reasons"])) == ("overdue", 2)
    assert (drain["last"]["state"], drain["last"]["duration_s"], drain["last"]["late"]) == ("failed", 60, False)
    assert (reconcile["paused"]["by"], reconcile["paused"]["reason"]) == (ME, "moving")
    shown = nightcrew.text("schedule", "list")
    assert "overdue" in shown
    assert f"ledger-reconcile: paused by {ME} until" in shown
    assert "is failed: disk full" in shown


def test_status_ends_with_5_when_a_slot_is_overdue(nightcrew: Command) -> None:
    """The verdict of the list is a reason of `status`, with the command that helps."""
    run_slot(nightcrew.data_dir, at=datetime.now(UTC) - 20 * MINUTE)
    answer = nightcrew("status", code=5)
    [reason] = [one for one in answer["reasons"] if one["check"] == "timetable"]
    assert reason["fix"] == "nightcrew schedule run-now usage-drain"
    [slot] = [one for one in answer["slots"] if one["entry"] == "usage-drain"]
    assert (slot["verdict"], slot["is_overdue"], slot["duration_s"], slot["state"]) == (
        "overdue",
        True,
        60,
        "succeeded",
    )


def test_coming_slots_say_whether_they_will_be_called_off(nightcrew: Command) -> None:
    """In order, all entries together; those of a pause are marked."""
    nightcrew("schedule", "pause", "usage-drain", "--for", "2m", "--reason", "moving")
    slots = nightcrew("schedule", "next", "--count", "12")["slots"]
    assert [one["slot_at"] for one in slots] == sorted(one["slot_at"] for one in slots)
    drains = [one["paused"] for one in slots if one["entry"] == "usage-drain"]
    assert drains[:5] == [True, True, False, False, False]
    assert not any(one["paused"] for one in slots if one["entry"] == "ledger-reconcile")
    assert "paused" in nightcrew.text("schedule", "next")


def test_the_history_shows_outcomes_and_durations(nightcrew: Command) -> None:
    """Newest first, with a summary; the table draws a bar for each duration."""
    start = datetime.now(UTC) - timedelta(hours=2)
    for minutes in (1, 2, 4):
        run_slot(nightcrew.data_dir, at=start + minutes * MINUTE, took=minutes * MINUTE)
    with ledger(nightcrew.data_dir, at=start + 60 * MINUTE) as runtime:
        walk_entry(DRAIN, runtime)
    answer = nightcrew("schedule", "history", "usage-drain", "--limit", "1000")
    summary, slots = answer["summary"], answer["slots"]
    assert [one["slot_at"] for one in slots] == sorted((one["slot_at"] for one in slots), reverse=True)
    assert (summary["slots"], len(slots), summary["p50_duration_s"], summary["longest_duration_s"]) == (
        60,
        60,
        120,
        240,
    )
    assert summary["success_rate"] == 3 / 59
    assert (slots[-1]["state"], slots[-1]["attempt"], slots[-1]["duration_s"]) == ("succeeded", 1, 60)
    assert "nobody fired it within its grace" in slots[10]["error"]
    shown = nightcrew.text("schedule", "history", "usage-drain", "-n", "100")
    bars = [line.count("█") + line.count("#") for line in shown.splitlines()]
    assert sorted(bars)[-3:] == [6, 12, 24]
    assert "60 slots, 5.1% succeeded, took p50 120.0 s" in shown
    assert nightcrew.text("schedule", "history", "ledger-reconcile").strip() == "ledger-reconcile has no slots yet"


def test_a_pause_is_made_and_ended(nightcrew: Command) -> None:
    """With an end as an instant or a length, in the name of the one at the keyboard."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    made = nightcrew("schedule", "pause", "usage-drain", "--until", f"{end:%Y-%m-%dT%H:%M:%S}", "--reason", "moving")
    assert (made["by"], datetime.fromisoformat(made["until"])) == (ME, end)
    assert f"usage-drain is paused by {ME} until" in nightcrew.text(
        "schedule", "pause", "usage-drain", "--for", "1d12h", "--reason", "moving on"
    )
    assert nightcrew("schedule", "resume", "usage-drain")["resumed"] is True
    assert nightcrew("schedule", "resume", "usage-drain")["resumed"] is False
    assert "was not paused" in nightcrew.text("schedule", "resume", "usage-drain")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["pause", "usage-dran", "--for", "1h", "--reason", "x"], "no entry 'usage-dran'", "did you mean usage-drain?"),
        (["pause", "usage-drain", "--reason", "x"], "needs an end", "--for 3d"),
        (["pause", "usage-drain", "--for", "1h", "--until", "2999-01-01"], "either --until or --for", "--for 3d"),
        (["pause", "usage-drain", "--for", "1h"], "needs a reason", "--reason"),
        (["pause", "usage-drain", "--for", "soon", "--reason", "x"], "'soon' is no duration", "1d12h"),
        (["pause", "usage-drain", "--for", "999999w", "--reason", "x"], "no calendar", "--for 3d"),
        (["pause", "usage-drain", "--for", "60w", "--reason", "x"], "366 days at most", "--for 3d"),
        (["pause", "usage-drain", "--until", "tomorrow", "--reason", "x"], "'tomorrow' is no instant", "2026-12-24"),
        (["pause", "usage-drain", "--until", "2020-01-01", "--reason", "x"], "2020-01-01 00:00Z is over", "--for 3d"),
        (["resume", "nightly"], "no entry 'nightly'", "ledger-reconcile"),
        (["history", "usage-dran"], "no entry 'usage-dran'", "did you mean usage-drain?"),
        (["run-now", "usage-dran"], "no entry 'usage-dran'", "did you mean usage-drain?"),
    ],
)
def test_what_makes_no_sense_says_what_would(nightcrew: Command, arguments: list[str], error: str, hint: str) -> None:
    """One line with the mistake and one with what to write, and exit code 2."""
    nightcrew.text("schedule", *arguments, code=2)
    assert error in nightcrew.errors
    assert hint in nightcrew.errors


def test_run_now_names_the_run_that_it_made(nightcrew: Command, redis_server: RedisServer) -> None:
    """The id is that of the row and of the message: of the slot at hand first, then outside the timetable."""
    first, second = (nightcrew("schedule", "run-now", "usage-drain") for _ in range(2))
    third = nightcrew("schedule", "run-now", "usage-drain")
    assert [one["slot_at"] is None for one in (first, second, third)].count(True) >= 1
    for one in (first, second, third):
        row = nightcrew("jobs", "show", one["id"])["job"]
        assert (row["slot_at"] or "")[:16] == (one["slot_at"] or "")[:16]
    items = cast("list[bytes]", redis_server.client().lrange(DRAIN.message.queue, 0, -1))
    headers = [read_item(item, queue=DRAIN.message.queue, now=utc_now())["headers"] for item in items[::-1]]
    assert [(one["task"], one["id"]) for one in headers] == [
        (DRAIN.message.kind, one["id"]) for one in (first, second, third)
    ]


def test_run_now_without_a_broker_says_which_run_waits(nightcrew: Command, sqlite_url: str) -> None:
    """The run is in the ledger and will be published; the error names it."""
    with running_redis() as server:
        gone = server.url
    (nightcrew.data_dir / "nightcrew.toml").write_text(f'[broker]\nurl = "{gone}"\n', encoding="utf-8")
    nightcrew.text("schedule", "run-now", "usage-drain", code=4)
    assert "the broker did not take its message" in nightcrew.errors
    with opened_engine(sqlite_url) as engine, engine.connect() as connection:
        [(run_id, state)] = connection.exec_driver_sql("SELECT id, state FROM job_runs").all()
    assert (run_id in nightcrew.errors, state) == (True, "queued")
