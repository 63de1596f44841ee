"""Checks of the backups: what the tables say of points and vaults, and whether the engine is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.backups.drills.verdicts import Verdict
from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.drills.records import Drill
    from tasks.backups.operations.proving import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """What is known of backups without asking a vault."""

    points: int
    newest_at: datetime | None
    """The moment that the newest whole point was taken at."""
    newest_proven_at: datetime | None
    """The moment that the newest point was taken at of those that were restored and found equal."""
    damaged: Mapping[str, str]
    """By id: why it cannot be restored."""
    suspect: Mapping[str, str]
    """By id: why it is not believed."""
    unsound: Mapping[str, str]
    """By name of the vault: what its last check has found."""
    proofs: Standing
    """How restores stand."""


def check_backups(facts: BackupFacts) -> Iterator[Finding]:
    """Judge the points and the vaults. Whether one is overdue is judged with the timetable."""
    yield check_points(facts)
    yield check_vaults(facts.unsound)
    yield check_drill(facts.proofs.newest)
    yield check_proof(facts.proofs)


def check_points(facts: BackupFacts) -> Finding:
    """Judge whether what is listed can be restored, as far as is known."""
    if facts.damaged:
        detail = f"{_named(facts.damaged)} cannot be restored"
        return error("restore-points", detail, fix="nightcrew backup full && nightcrew backup list")
    if facts.suspect:
        point = next(iter(facts.suspect))
        detail = f"{_named(facts.suspect)}: older points are kept until somebody has looked"
        return warning("restore-points", detail, fix=f"nightcrew backup show {point}   # then backup accept {point}")
    if facts.newest_at is None:
        return ok("restore-points", "none yet")
    return ok("restore-points", f"{facts.points}, the newest of {facts.newest_at:%Y-%m-%d %H:%M}Z")


def check_vaults(unsound: Mapping[str, str]) -> Finding:
    """Judge what the last checks of the vaults have found."""
    if not unsound:
        return ok("vaults", "sound when they were last checked")
    return error("vaults", f"damaged: {_named(unsound)}", fix="nightcrew backup verify --slices 1")


def check_drill(newest: Drill | None) -> Finding:
    """Judge what the newest drill has found: that a point is damaged and that nobody knows are two findings."""
    if newest is None:
        return ok("drill", "none yet")
    what = f"of {newest.point_id or 'no point'} on {newest.finished_at:%Y-%m-%d %H:%M}Z: {newest.reason}"
    if newest.verdict is Verdict.PASS:
        return ok("drill", f"passed, {what}")
    if newest.verdict is Verdict.INCONCLUSIVE:
        return warning("drill-inconclusive", f"nothing was found out by the drill {what}", fix=_again(newest))
    if newest.way == "disaster":
        return error("drill-failed", f"the disaster {what}", fix=_again(newest))
    fix = "nightcrew backup full && nightcrew drill latest   # then look into the vault: backup verify --slices 1"
    return error("drill-failed", f"the drill {what}", fix=fix)


def check_proof(proofs: Standing) -> Finding:
    """Judge whether anything was proven to restore, not too long ago."""
    if proofs.overdue:
        return error(
            "proof-overdue", proofs.overdue, fix="nightcrew drill   # and nightcrew schedule history drill-weekly"
        )
    return ok("proof", str(proofs))


def check_engine(path: str | None, name: str) -> Finding:
    """Judge whether the program is there that keeps the vaults."""
    if path is None:
        return error(
            "backup-engine", f"{name} is not installed: every backup will fail", fix="sudo apt-get install restic"
        )
    return ok("backup-engine", path)


def _again(drill: Drill) -> str:
    if drill.way == "disaster":
        return "nightcrew drill --disaster"
    point = f" {drill.point_id}" if drill.point_id else ""
    return f"nightcrew drill{point}{' --cold' if drill.way == 'cold' else ''}"


def _named(reasons: Mapping[str, str]) -> str:
    shown: Sequence[str] = [f"{name} ({reason})" for name, reason in list(reasons.items())[:3]]
    rest = len(reasons) - len(shown)
    return ", ".join([*shown, *([f"and {rest} more"] if rest else [])])
