"""What people see of restore tests: how much is proven, what could be restored to, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.drills.coverage import coverage, reachable, why_overdue
from tasks.backups.drills.report import Page, render
from tasks.backups.drills.timing import measured_restores, predict_newest, restore_times
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.forecast import NEWEST_USED
from tasks.backups.operations.drilling import list_drills
from tasks.backups.operations.listing import list_points
from tasks.backups.operations.vaults import backup_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.backups.drills.coverage import Coverage, Reachable
    from tasks.backups.drills.records import Drill
    from tasks.backups.drills.timing import Prediction
    from tasks.backups.forecast import MeasuredRestore
    from tasks.backups.points import RestorePoint
    from tasks.runtime import Runtime

MAIN_PROFILE: Final = "default"
"""What is restored when all is lost: other profiles hold parts of it."""

_MOST_READ: Final = 200
_PASSES_READ: Final = 3 * NEWEST_USED


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How restores stand at a moment."""

    coverage: Coverage
    reachable: Reachable | None
    """None where nothing is proven."""
    newest: Drill | None
    """The newest drill, whatever it found."""
    prediction: Prediction | None
    overdue: str
    """For how long nothing was proven; empty where that is not too long."""

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `status` documents."""
        return {
            "proven": self.coverage.to_json() | {"says": str(self)},
            "could_restore_to": None if self.reachable is None else self.reachable.to_json(),
            "last_drill": None if self.newest is None else self.newest.to_summary(),
            "predicted_rto": None if self.prediction is None else self.prediction.to_json(),
        }

    def __str__(self) -> str:
        if not self.coverage.points:
            return str(self.coverage)
        return f"{self.coverage}; {self.reachable or 'nothing is proven to restore yet'}"


def look_at_proofs(runtime: Runtime, *, points: Sequence[RestorePoint] | None = None) -> Standing:
    """Say how restores stand; `points` are all that there are, for whoever has read them already.

    Raises:
        TransientError: the database is away.
    """
    options, now = backup_options(runtime), runtime.clock()
    known = list_points(runtime) if points is None else points
    passed = list_drills(runtime, verdict=Verdict.PASS, limit=_PASSES_READ)
    newest = list_drills(runtime, limit=1)
    return Standing(
        coverage=coverage(known, now=now),
        reachable=reachable(known, passed, profile=MAIN_PROFILE),
        newest=newest[0] if newest else None,
        prediction=predict_newest(known, passed, profile=MAIN_PROFILE, target=options.target_rto),
        overdue=why_overdue(known, now=now),
    )


def measured_of(runtime: Runtime, profile: str) -> list[MeasuredRestore]:
    """Give the restores of a profile that drills have measured, the newest first.

    Raises:
        TransientError: the database is away.
    """
    return measured_restores(list_drills(runtime, verdict=Verdict.PASS, limit=_PASSES_READ), profile=profile)


def drills_of_point(runtime: Runtime, point_id: str) -> list[Drill]:
    """Give what drills of a point have found, the newest first.

    Raises:
        TransientError: the database is away.
    """
    return list_drills(runtime, point_id=point_id)


def drill_of_run(runtime: Runtime, run_id: str) -> Drill | None:
    """Find the drill that a run has done; None where it came to no end that was written down.

    Raises:
        TransientError: the database is away.
    """
    return next((drill for drill in list_drills(runtime, limit=_MOST_READ) if drill.run_id == run_id), None)


def past_drills(runtime: Runtime) -> dict[str, Any]:
    """Give all drills that are known, the newest first, and what they have measured, as JSON.

    Raises:
        TransientError: the database is away.
    """
    standing = look_at_proofs(runtime)
    every = list_drills(runtime)
    return {
        "drills": [drill.to_summary() for drill in every],
        "times": [times.to_json() for times in restore_times(every)],
        **standing.to_json(),
    }


def report_page(runtime: Runtime) -> str:
    """Give the page that says how restores stand, as HTML that needs nothing else.

    Raises:
        TransientError: the database is away.
    """
    points = list_points(runtime)
    standing = look_at_proofs(runtime, points=points)
    page = Page(
        made_at=runtime.clock(),
        coverage=standing.coverage,
        reachable=standing.reachable,
        prediction=standing.prediction,
        overdue=standing.overdue,
        drills=list_drills(runtime),
        points=points,
    )
    return render(page)
