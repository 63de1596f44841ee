"""When beat sends what."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from freezegun import freeze_time

from nightcrew.messages import DrainUsage
from schedules.entries import Entry
from schedules.timetable import BACKUP_ENTRIES, ENTRIES
from workers.beat import SlotSchedule, TimetableScheduler
from workers.celery_config import OPTIONAL_ENTRIES

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
NIGHTLY = Entry(
    name="nightly",
    cron="30 2 * * *",
    message=DrainUsage(),
    catch_up="last",
    grace=timedelta(minutes=5),
    max_duration=timedelta(hours=1),
)


class NightlyScheduler(TimetableScheduler):
    entries = (NIGHTLY,)


@pytest.fixture
def app(tmp_path: Path) -> Celery:
    app = Celery("beat-test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(timezone="UTC", enable_utc=True, beat_schedule_filename=str(tmp_path / "beat-schedule.json"))
    return app


def due(last_sent_at: datetime, now: datetime) -> tuple[bool, float]:
    with freeze_time(now):
        found = SlotSchedule(NIGHTLY).is_due(last_sent_at)
    return found.is_due, found.next


def test_nothing_is_due_before_the_next_slot() -> None:
    """Beat sleeps until then."""
    assert due(NOON, NOON + timedelta(hours=1)) == (False, 13.5 * 3600)


def test_a_slot_is_due_when_it_begins() -> None:
    """To the second, and the pause leads to the one after it."""
    slot = datetime(2026, 3, 30, 2, 30, tzinfo=UTC)
    assert due(NOON, slot - timedelta(seconds=1)) == (False, 1.0)
    assert due(NOON, slot) == (True, 24 * 3600)


def test_slots_that_passed_unseen_are_due_once() -> None:
    """After a week away there is one message; the ledger says what becomes of the other slots."""
    assert due(NOON - timedelta(days=7), NOON) == (True, 14.5 * 3600)
    assert due(NOON, NOON + timedelta(seconds=1))[0] is False


def test_a_clock_that_was_set_back_does_not_silence_beat() -> None:
    """The next slot counts from now, not from a time that is still to come."""
    assert due(NOON + timedelta(days=30), NOON) == (False, 14.5 * 3600)
    assert due(NOON + timedelta(days=30), datetime(2026, 3, 30, 2, 29, 59, tzinfo=UTC)) == (False, 1.0)


def test_changes_of_the_clock_change_nothing() -> None:
    """Slots are in UTC: one a day, also on the day on which European clocks go forward."""
    day = datetime(2026, 3, 28, 2, 30, tzinfo=UTC)
    assert [due(day + timedelta(days=n), day + timedelta(days=n + 1))[0] for n in range(3)] == [True] * 3


def test_beat_has_every_entry_of_the_timetable(app: Celery) -> None:
    """Under the same names, each with an expiry below its period."""
    schedule = TimetableScheduler(app).schedule
    assert set(schedule) == {entry.name for entry in ENTRIES}
    assert {(entry.options or {})["expires"] for entry in schedule.values()} == {54.0, 540.0}


def test_beat_has_what_the_settings_choose(app: Celery) -> None:
    """It stands in the configuration of the app, beside what every crew does."""
    app.conf[OPTIONAL_ENTRIES] = BACKUP_ENTRIES
    assert set(TimetableScheduler(app).schedule) == {entry.name for entry in (*ENTRIES, *BACKUP_ENTRIES)}


def test_beat_remembers_what_it_has_sent(app: Celery, tmp_path: Path) -> None:
    """What became due while no beat ran is due at the next start."""
    with freeze_time(NOON):
        NightlyScheduler(app).close()
    assert json.loads((tmp_path / "beat-schedule.json").read_text())["last_sent_at"] == {"nightly": NOON.isoformat()}
    with freeze_time(NOON + timedelta(days=1)):
        is_due, _ = NightlyScheduler(app).schedule["nightly"].is_due()
    assert is_due


@pytest.mark.parametrize("content", ["", "{", "[]", '{"last_sent_at": 5}', '{"last_sent_at": {"nightly": "x"}}', "\0"])
def test_a_spoilt_file_is_one_that_is_not_there(app: Celery, tmp_path: Path, content: str) -> None:
    """Beat starts all the same; missed slots are the ledger's business."""
    (tmp_path / "beat-schedule.json").write_text(content)
    with freeze_time(NOON):
        entry = NightlyScheduler(app).schedule["nightly"]
    assert entry.last_run_at == NOON


def test_an_entry_that_is_gone_is_forgotten(app: Celery, tmp_path: Path) -> None:
    """The timetable is what counts, not what a file knows."""
    (tmp_path / "beat-schedule.json").write_text('{"last_sent_at": {"old-entry": "2026-01-01T00:00:00+00:00"}}')
    assert set(NightlyScheduler(app).schedule) == {"nightly"}
