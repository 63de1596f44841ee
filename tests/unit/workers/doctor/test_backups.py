"""What is said of backups, from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from workers.doctor.backups import BackupFacts, check_backups, check_engine

WELL = BackupFacts(
    points=3,
    newest_at=datetime(2026, 11, 23, 1, 30, tzinfo=UTC),
    newest_proven_at=None,
    damaged={},
    suspect={},
    unsound={},
)


def test_a_crew_without_points_is_well() -> None:
    """It is the timetable that says when one is overdue."""
    findings = list(check_backups(replace(WELL, points=0, newest_at=None)))
    assert [(one.check, one.level) for one in findings] == [("restore-points", "ok"), ("vaults", "ok")]
    assert findings[0].detail == "none yet"


def test_the_newest_point_is_named() -> None:
    """Its moment, and how many there are."""
    assert next(check_backups(WELL)).detail == "3, the newest of 2026-11-23 01:30Z"


@pytest.mark.parametrize(
    ("facts", "check", "level", "told"),
    [
        (
            replace(WELL, damaged={"a1": "its snapshot is gone"}),
            "restore-points",
            "error",
            "a1 (its snapshot is gone) cannot",
        ),
        (replace(WELL, suspect={"b2": "half the rows"}), "restore-points", "warning", "b2 (half the rows)"),
        (replace(WELL, unsound={"primary": "pack 7 is missing"}), "vaults", "error", "primary (pack 7 is missing)"),
    ],
)
def test_what_is_wrong_is_named(facts: BackupFacts, check: str, level: str, told: str) -> None:
    """With the reason, and the command that helps."""
    found = {one.check: one for one in check_backups(facts)}[check]
    assert (found.level, bool(found.fix)) == (level, True)
    assert told in found.detail


def test_many_damaged_points_are_counted() -> None:
    """Three are named, the rest is a number."""
    damaged = {f"p{number}": "gone" for number in range(5)}
    assert "p2 (gone), and 2 more cannot be restored" in next(check_backups(replace(WELL, damaged=damaged))).detail


def test_a_missing_engine_comes_with_the_line_that_installs_it() -> None:
    """It is said before the first night."""
    missing = check_engine(None, "restic")
    assert (missing.level, missing.fix) == ("error", "sudo apt-get install restic")
    assert check_engine("/usr/bin/restic", "restic").level == "ok"
