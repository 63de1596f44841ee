"""Drills for tests of what people see of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tasks.backups.drills.records import Drill, Moment, Timing
from tasks.backups.drills.verdicts import Check, MutantResult, Verdict
from tests.unit.tasks.backups.histories import NOW

if TYPE_CHECKING:
    from collections.abc import Sequence

POINT = "aaaaaaaaaaaa"

CHECKS: Sequence[Check] = (
    Check(name="sqlite.content", artefact="sqlite", examined=12_345),
    Check(name="redis.broker.keys", artefact="redis", examined=0, unit="keys"),
    Check(name="files.config", artefact="files", examined=2, unit="files"),
)

MUTANTS: Sequence[MutantResult] = (
    MutantResult(name="sqlite.drop-a-row", artefact="sqlite", noticed_by=("sqlite.content",)),
    MutantResult(name="sqlite.empty-a-table", artefact="sqlite", noticed_by=("sqlite.content",)),
    MutantResult(name="files.flip-a-byte", artefact="files", noticed_by=("files.config",)),
    MutantResult(name="redis.drop-a-key", artefact="redis", not_possible="no keys"),
)


def drill(rto_s: float | None = 10.0, **values: Any) -> Drill:
    """Give one that passed now; a tenth of its time went to fetching, and six tenths to validating."""
    timing = None if rto_s is None else Timing(fetch_s=rto_s * 0.1, apply_s=rto_s * 0.3, validate_s=rto_s * 0.6)
    facts: dict[str, Any] = {
        "id": 1,
        "run_id": "run",
        "way": "warm",
        "point_id": POINT,
        "profile": "default",
        "kind": "full",
        "size_bytes": 100_000_000,
        "finished_at": NOW,
        "verdict": Verdict.PASS,
        "reason": "2 checks equal, 3/3 mutants rejected",
        "chosen_because": "never proven",
        "rpo_s": 4.5,
        "checks": CHECKS,
        "mutants": MUTANTS,
        **values,
    }
    asked_at = facts["finished_at"] - timedelta(seconds=90)
    timeline = (Moment(at=asked_at, says="chosen"), Moment(at=facts["finished_at"], says="pass"))
    return Drill(**{"asked_at": asked_at, "timing": timing, "timeline": timeline, **facts})
