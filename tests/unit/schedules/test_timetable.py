"""Entries say what they should, and the timetable is one of them each by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew.messages import DrainUsage, DrillRestore, RunCanary
from schedules.entries import Entry, by_name
from schedules.timetable import ENTRIES, EVERY_ENTRY, timetable_of

if TYPE_CHECKING:
    from tasks.runtime import ScheduleEntry


def _entry(**changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "name": "nightly-canary",
        "cron": "30 2 * * *",
        "message": RunCanary(),
        "catch_up": "last",
        "grace": timedelta(hours=1),
        "max_duration": timedelta(minutes=5),
    }
    return Entry(**{**fields, **changes})


def test_an_entry_is_what_the_ledger_needs() -> None:
    """An entry is a `ScheduleEntry`, and gives its slots."""
    entry: ScheduleEntry = _entry()
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert entry.slot_at(noon) == datetime(2026, 5, 1, 2, 30, tzinfo=UTC)
    assert next(_entry().slots_after(noon)) == datetime(2026, 5, 2, 2, 30, tzinfo=UTC)
    assert len(list(_entry().slots_between(noon, noon + timedelta(days=3)))) == 3


@pytest.mark.parametrize(
    "name", ["", "Nightly", "nightly_backup", "nightly--backup", "-nightly", "nightly-", "a b", "a:b"]
)
def test_a_name_in_another_case_is_refused(name: str) -> None:
    """Names stand in keys and on command lines, so they are kebab case."""
    with pytest.raises(ValueError, match="kebab case"):
        _entry(name=name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cron": "often"}, "entry 'nightly-canary': cron 'often' has 1 fields"),
        ({"catch_up": "some"}, "catch_up must be one of none, last, all, not 'some'"),
        ({"grace": timedelta()}, "grace must be longer than nothing"),
        ({"max_duration": timedelta(seconds=-1)}, "max_duration must be longer than nothing"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    """The error names the entry, the field and what is allowed."""
    with pytest.raises(ValueError, match=reason):
        _entry(**changes)


@pytest.mark.parametrize("cron", ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *"])
def test_a_message_expires_before_the_next_slot(cron: str) -> None:
    """Messages of an entry never pile up on its queue."""
    entry = _entry(cron=cron)
    first, second = entry.slots_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)), entry
    slot = next(first)
    assert timedelta() < entry.expires < next(second.slots_after(slot)) - slot


def test_names_are_unique() -> None:
    """Two entries of one name would share their slots."""
    with pytest.raises(ValueError, match="two entries are named 'nightly-canary'"):
        by_name(_entry(), _entry(name="other"), _entry(cron="0 0 * * *"))


def test_the_timetable_has_the_safety_nets() -> None:
    """Each minute, what doorbells and beat may have lost is looked for."""
    timetable = timetable_of(backups=False, hourly=True, second_vault=True)
    assert set(timetable) == {entry.name for entry in ENTRIES} == {"usage-drain", "ledger-reconcile", "ttl-collect"}
    assert timetable["usage-drain"].message == DrainUsage()
    assert all(timetable[name].name == name for name in timetable)
    assert {timetable[name].cron for name in ("usage-drain", "ledger-reconcile")} == {"* * * * *"}


def test_a_night_has_one_backup() -> None:
    """A full one on Sundays, else an incremental one; what is checked and let go comes after it."""
    timetable = timetable_of(backups=True, hourly=False, second_vault=False)
    week = datetime(2026, 11, 23, tzinfo=UTC)
    nights = {
        name: list(timetable[name].slots_between(week, week + timedelta(days=7)))
        for name in ("backup-weekly", "backup-nightly", "vault-verify", "vault-prune")
    }
    taken = sorted([*nights["backup-weekly"], *nights["backup-nightly"]])
    assert [slot.isoweekday() for slot in taken] == [1, 2, 3, 4, 5, 6, 7]
    assert [slot.isoweekday() for slot in nights["backup-weekly"]] == [7]
    later = zip(taken, nights["vault-verify"], nights["vault-prune"], strict=True)
    assert all(backup < verify < prune for backup, verify, prune in later)


def test_drills_come_by_themselves() -> None:
    """One a week of what is most due, when the night's backup is there, and a cold one a month."""
    timetable = timetable_of(backups=True, hourly=False, second_vault=False)
    weekly, cold = timetable["drill-weekly"], timetable["drill-cold-monthly"]
    assert (weekly.message, cold.message) == (DrillRestore(), DrillRestore(cold=True))
    year = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(list(weekly.slots_between(year, year + timedelta(days=364)))) == 52
    assert len(list(cold.slots_between(year, year + timedelta(days=364)))) == 12
    backups = {slot.date(): slot for slot in timetable["backup-nightly"].slots_between(year, year + timedelta(days=99))}
    assert all(backups[slot.date()] < slot for slot in weekly.slots_between(year, year + timedelta(days=90)))
    assert not {"drill-weekly", "drill-cold-monthly"} & set(
        timetable_of(backups=False, hourly=False, second_vault=False)
    )


def test_settings_choose_the_rest() -> None:
    """Hourly backups and a second vault have entries of their own."""
    without = timetable_of(backups=True, hourly=False, second_vault=False)
    assert set(timetable_of(backups=True, hourly=True, second_vault=False)) - set(without) == {"backup-hourly"}
    assert set(timetable_of(backups=True, hourly=False, second_vault=True)) - set(without) == {"vault-copy"}
    assert set(timetable_of(backups=True, hourly=True, second_vault=True)) == set(EVERY_ENTRY)
