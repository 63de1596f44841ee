"""How much of what is kept is proven, and what could be restored to: the figures that people see everywhere.

A point is proven for thirty days. One that is damaged, or rests on something damaged, is unproven whatever was found
before: it counts among all, so that it lowers the share until somebody has mended it or it is let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from tasks.backups.choosing import restorable
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.eta import seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from tasks.backups.drills.records import Drill
    from tasks.backups.points import RestorePoint

WINDOW: Final = timedelta(days=30)
"""How long a proof is believed."""

OVERDUE: Final = timedelta(days=35)
"""How long there may be no proof at all: the window, and a week for the next drill."""

FIRST_OVERDUE: Final = timedelta(days=2)
"""The same while nothing was ever proven: a full is drilled as soon as it is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A point that nobody has proven lately."""

    point_id: str
    taken_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `status` documents."""
        return {"point": self.point_id, "taken_at": self.taken_at.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many of the points are proven."""

    points: int
    """All that are kept."""
    proven: int
    """Those of them that were proven within the window, and can still be restored."""
    oldest_unproven: Waiting | None
    """The oldest of the others."""

    @property
    def share(self) -> float | None:
        """The proven of all; None where there is nothing to prove."""
        return self.proven / self.points if self.points else None

    def __str__(self) -> str:
        if not self.points:
            return "no points yet"
        noun = "point" if self.points == 1 else "points"
        return f"{percent(self.proven, self.points)} % of {self.points} {noun} in the last {WINDOW.days} days"

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `status` documents."""
        return {
            "share": self.share,
            "proven": self.proven,
            "points": self.points,
            "within_days": WINDOW.days,
            "oldest_unproven": None if self.oldest_unproven is None else self.oldest_unproven.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """What a restore would give back: the newest moment that is proven."""

    point_id: str
    taken_at: datetime
    proven_at: datetime
    rto_s: float | None
    """None where it was neither measured nor predicted."""
    rto_is: Literal["measured", "predicted"] | None

    def __str__(self) -> str:
        said = " predicted" if self.rto_is == "predicted" else ""
        rto = "" if self.rto_s is None else f", RTO {seconds_text(self.rto_s)}{said}"
        return f"you could restore to {self.taken_at:%Y-%m-%d %H:%M}Z (proven {self.proven_at:%Y-%m-%d %H:%M}Z{rto})"

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `status` documents."""
        return {
            "point": self.point_id,
            "taken_at": self.taken_at.isoformat(),
            "proven_at": self.proven_at.isoformat(),
            "rto_s": None if self.rto_s is None else round(self.rto_s, 3),
            "rto_is": self.rto_is,
        }


def coverage(points: Sequence[RestorePoint], *, now: datetime) -> Coverage:
    """Count what is proven."""
    whole = {point.id for point in restorable(points)}
    unproven = [point for point in points if point.id not in whole or not _is_fresh(point, now)]
    oldest = min(unproven, key=lambda point: (point.taken_at, point.id), default=None)
    return Coverage(
        points=len(points),
        proven=len(points) - len(unproven),
        oldest_unproven=None if oldest is None else Waiting(point_id=oldest.id, taken_at=oldest.taken_at),
    )


def reachable(points: Sequence[RestorePoint], drills: Iterable[Drill], *, profile: str) -> Reachable | None:
    """Find the newest point of a profile that is proven and can still be restored, however old its proof.

    `drills` are any that may have measured it. None where nothing is proven.
    """
    for point in restorable(points):
        if point.profile == profile and point.proven_at is not None:
            measured_s = _measured_s(point, drills)
            rto_s = point.predicted_rto_s if measured_s is None else measured_s
            return Reachable(
                point_id=point.id,
                taken_at=point.taken_at,
                proven_at=point.proven_at,
                rto_s=rto_s,
                rto_is=None if rto_s is None else "predicted" if measured_s is None else "measured",
            )
    return None


def why_overdue(points: Sequence[RestorePoint], *, now: datetime) -> str:
    """Say for how long nothing was proven, where that is too long; empty where all is well or nothing is there."""
    if not points:
        return ""
    proofs = [point.proven_at for point in restorable(points) if point.proven_at is not None]
    if proofs:
        newest = max(proofs)
        return f"nothing was proven since {newest:%Y-%m-%d %H:%M}Z" if now - newest > OVERDUE else ""
    oldest = min(point.taken_at for point in points)
    if now - oldest <= FIRST_OVERDUE:
        return ""
    return f"none of {len(points)} points is proven to restore, the oldest is of {oldest:%Y-%m-%d %H:%M}Z"


def percent(part: int, whole: int) -> int:
    """Give a share in whole hundredths, rounded down: 100 means all of them, and nothing else does."""
    return part * 100 // whole if whole else 0


def _is_fresh(point: RestorePoint, now: datetime) -> bool:
    return point.proven_at is not None and now - point.proven_at <= WINDOW


def _measured_s(point: RestorePoint, drills: Iterable[Drill]) -> float | None:
    own = [
        drill
        for drill in drills
        if drill.point_id == point.id and drill.verdict is Verdict.PASS and drill.timing is not None
    ]
    newest = max(own, key=lambda drill: drill.finished_at, default=None)
    return newest.timing.rto_s if newest is not None and newest.timing is not None else None
