"""What is said of backups, from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tasks.backups.drills.coverage import Coverage
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations.proving import Standing
from tests.unit.tasks.backups.drills.drilled import POINT, drill
from workers.doctor.backups import BackupFacts, check_backups, check_drill, check_engine, check_proof

if TYPE_CHECKING:
    from tasks.backups.drills.records import Drill

COVERAGE = Coverage(points=3, proven=2, oldest_unproven=None)
STANDING = Standing(coverage=COVERAGE, reachable=None, newest=None, prediction=None, overdue="")
WELL = BackupFacts(
    points=3,
    newest_at=datetime(2026, 11, 23, 1, 30, tzinfo=UTC),
    newest_proven_at=None,
    damaged={},
    suspect={},
    unsound={},
    proofs=STANDING,
)


def test_a_crew_without_points_is_well() -> None:
    """It is the timetable that says when one is overdue."""
    findings = list(check_backups(replace(WELL, points=0, newest_at=None)))
    assert [(one.check, one.level) for one in findings] == [
        ("restore-points", "ok"),
        ("vaults", "ok"),
        ("drill", "ok"),
        ("proof", "ok"),
    ]
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


@pytest.mark.parametrize(
    ("newest", "check", "level", "fix"),
    [
        (drill(verdict=Verdict.FAIL, reason="sqlite.content: a row"), "drill-failed", "error", "nightcrew backup full"),
        (
            drill(verdict=Verdict.INCONCLUSIVE, reason="sqlite.content: a row"),
            "drill-inconclusive",
            "warning",
            f"nightcrew drill {POINT}",
        ),
        (
            drill(verdict=Verdict.INCONCLUSIVE, reason="sqlite.content: a row", point_id=None),
            "drill-inconclusive",
            "warning",
            "nightcrew drill",
        ),
        (
            drill(verdict=Verdict.INCONCLUSIVE, reason="sqlite.content: a row", way="cold"),
            "drill-inconclusive",
            "warning",
            f"nightcrew drill {POINT} --cold",
        ),
        (
            drill(verdict=Verdict.FAIL, reason="sqlite.content: a row", way="disaster"),
            "drill-failed",
            "error",
            "nightcrew drill --disaster",
        ),
        (drill(reason="sqlite.content: a row"), "drill", "ok", ""),
    ],
)
def test_each_verdict_is_a_finding_of_its_own(newest: Drill, check: str, level: str, fix: str) -> None:
    """That a point is damaged, and that nobody knows, are not mended alike; both say what was found."""
    found = check_drill(newest)
    assert (found.check, found.level) == (check, level)
    assert found.fix.startswith(fix)
    assert bool(found.fix) == bool(fix)
    assert found.detail.endswith("2026-11-23 04:00Z: sqlite.content: a row")


def test_a_proof_that_is_overdue_is_another_finding() -> None:
    """Also while the newest drill passed; else the figure that stands everywhere."""
    overdue = replace(STANDING, overdue="nothing was proven since 2026-10-01 04:00Z", newest=drill())
    findings = {one.check: one for one in check_backups(replace(WELL, proofs=overdue))}
    assert (findings["drill"].level, findings["proof-overdue"].level) == ("ok", "error")
    assert findings["proof-overdue"].fix.startswith("nightcrew drill")
    assert "proof" not in findings
    proof = check_proof(STANDING)
    assert (proof.check, proof.level) == ("proof", "ok")
    assert proof.detail == "66 % of 3 points in the last 30 days; nothing is proven to restore yet"


def test_a_missing_engine_comes_with_the_line_that_installs_it() -> None:
    """It is said before the first night."""
    missing = check_engine(None, "restic")
    assert (missing.level, missing.fix) == ("error", "sudo apt-get install restic")
    assert check_engine("/usr/bin/restic", "restic").level == "ok"
