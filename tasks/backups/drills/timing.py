"""How long restores took: what drills have measured, by size and depth, and what that says of the next restore.

Only what passed counts, and only restores of one point: a drill that ended early measured the way to its end, and a
disaster takes in more than a restore.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tasks.backups.choosing import restorable
from tasks.backups.drills.choosing import DEPTHS
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.forecast import MeasuredRestore, Workload, predict, workload_of
from tasks.backups.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from tasks.backups.drills.records import Drill, Timing
    from tasks.backups.points import RestorePoint

SIZES: Final = (100_000_000, 1_000_000_000, 10_000_000_000)
"""Upper ends of the buckets of what a restore writes, in bytes; what is larger is a bucket of its own."""

_SIZE_NAMES: Final = ("up to 100 MB", "up to 1 GB", "up to 10 GB", "over 10 GB")
_MEDIAN: Final = 0.5
_NEARLY_ALL: Final = 0.95


class Bucket(NamedTuple):
    """Restores that are alike."""

    size: int
    """Number of its bucket in `SIZES`."""
    depth: int
    """Number of its bucket in `DEPTHS`."""

    @property
    def size_text(self) -> str:
        """Say how large they are."""
        return _SIZE_NAMES[self.size]

    @property
    def depth_text(self) -> str:
        """Say how many deltas they apply."""
        lowest = DEPTHS[self.depth - 1] + 1 if self.depth else 0
        if self.depth == len(DEPTHS):
            return f"{lowest} deltas and more"
        highest = DEPTHS[self.depth]
        return "no deltas" if highest == 0 else f"{lowest} to {highest} deltas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something took, in seconds: half of them at most `p50_s`, nearly all at most `p95_s`."""

    p50_s: float
    p95_s: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        """Take those of the values that have half, and 95 of 100, at or below them: never one that nobody measured.

        Raises:
            ValueError: there are none.
        """
        ordered = sorted(seconds)
        if not ordered:
            msg = "nothing was measured"
            raise ValueError(msg)
        return cls(p50_s=_at(ordered, _MEDIAN), p95_s=_at(ordered, _NEARLY_ALL))

    def to_json(self) -> dict[str, float]:
        """Give it with the keys that `drill --list` documents."""
        return {"p50_s": round(self.p50_s, 3), "p95_s": round(self.p95_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTimes:
    """How long the restores of a bucket took."""

    bucket: Bucket
    restores: int
    fetch: Spread
    apply: Spread
    validate: Spread
    total: Spread

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `drill --list` documents."""
        return {
            "size": self.bucket.size_text,
            "depth": self.bucket.depth_text,
            "restores": self.restores,
            "fetch": self.fetch.to_json(),
            "apply": self.apply.to_json(),
            "validate": self.validate.to_json(),
            "total": self.total.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How long a restore of the newest point would take, beside how long it may."""

    point_id: str
    seconds: float
    target_s: float
    basis: str

    @property
    def is_over(self) -> bool:
        """Whether it would take longer than it may: then the next backup becomes a full, if that helps."""
        return self.seconds > self.target_s

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `status` documents."""
        return {
            "point": self.point_id,
            "seconds": round(self.seconds, 3),
            "target_s": self.target_s,
            "basis": self.basis,
            "is_over": self.is_over,
        }


def bucket_of(drill: Drill) -> Bucket:
    """Say which restores it is like."""
    return Bucket(size=bisect_left(SIZES, drill.size_bytes), depth=bisect_left(DEPTHS, drill.sequence))


def restore_times(drills: Iterable[Drill]) -> list[RestoreTimes]:
    """Say how long restores took, by size and depth, small and shallow ones first."""
    by_bucket: defaultdict[Bucket, list[Timing]] = defaultdict(list)
    for drill, timing in _measured(drills):
        by_bucket[bucket_of(drill)].append(timing)
    return [_times(bucket, timings) for bucket, timings in sorted(by_bucket.items())]


def measured_restores(drills: Iterable[Drill], *, profile: str | None = None) -> list[MeasuredRestore]:
    """Give the restores that a forecast goes by, the newest first, of one profile or of all.

    A drill does not know how much its deltas were together. They count as nothing, so that a forecast is at most some
    parts of a hundred too long: reading them is the small part of a restore.
    """
    wanted = [drill for drill in drills if profile in {None, drill.profile}]
    newest_first = sorted(wanted, key=lambda drill: drill.finished_at, reverse=True)
    return [
        MeasuredRestore(work=Workload(size_bytes=drill.size_bytes, deltas=drill.sequence), seconds=timing.rto_s)
        for drill, timing in _measured(newest_first)
    ]


def predict_newest(
    points: Sequence[RestorePoint], drills: Iterable[Drill], *, profile: str, target: timedelta
) -> Prediction | None:
    """Predict a restore of the newest point of a profile that can be restored; None where there is none."""
    own = [point for point in restorable(points) if point.profile == profile]
    if not own:
        return None
    forecast = predict(workload_of(Lineage(points).path_to(own[0].id)), measured_restores(drills, profile=profile))
    return Prediction(
        point_id=own[0].id, seconds=forecast.seconds, target_s=target.total_seconds(), basis=forecast.basis
    )


def _measured(drills: Iterable[Drill]) -> Iterable[tuple[Drill, Timing]]:
    for drill in drills:
        if drill.verdict is Verdict.PASS and drill.way != "disaster" and drill.timing is not None:
            yield drill, drill.timing


def _times(bucket: Bucket, timings: Sequence[Timing]) -> RestoreTimes:
    return RestoreTimes(
        bucket=bucket,
        restores=len(timings),
        fetch=Spread.of(timing.fetch_s for timing in timings),
        apply=Spread.of(timing.apply_s for timing in timings),
        validate=Spread.of(timing.validate_s for timing in timings),
        total=Spread.of(timing.rto_s for timing in timings),
    )


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[max(ceil(share * len(ordered)), 1) - 1]
