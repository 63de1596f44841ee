"""Restore points for tests: single ones, and histories of many."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tasks.backups.points import PointState, RestorePoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.backups.points import Kind

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SUNDAY = 6


def full(point_id: str, **values: Any) -> RestorePoint:
    """Give a full, taken now."""
    facts = {
        "id": point_id,
        "profile": "default",
        "kind": "full",
        "chain": point_id,
        "sequence": 0,
        "parent_id": None,
        "reason": "asked for",
        "taken_at": NOW,
        "size_bytes": 100_000_000,
        "staged_bytes": 40_000_000,
        "added_bytes": 40_000_000,
        "rows": 10_000,
        "snapshot_id": f"snapshot-{point_id}",
        **values,
    }
    return RestorePoint(**{"finished_at": facts["taken_at"] + timedelta(minutes=2), **facts})


def delta(parent: RestorePoint, point_id: str, kind: Kind = "incremental", **values: Any) -> RestorePoint:
    """Give what was taken an hour after its parent, against it."""
    lineage = {"chain": parent.chain, "sequence": parent.sequence + 1, "parent_id": parent.id}
    sizes = {"staged_bytes": 400_000, "added_bytes": 400_000}
    taken = {"taken_at": parent.taken_at + HOUR, "profile": parent.profile}
    return full(point_id, kind=kind, **{**taken, **lineage, **sizes, **values})


def chain(deltas: int, **values: Any) -> list[RestorePoint]:
    """Give a full, `a0`, and so many deltas in a row: `a1`, `a2`, …; an hour between two, the last one taken now."""
    points = [full("a0", taken_at=NOW - deltas * HOUR)]
    for number in range(1, deltas + 1):
        points.append(delta(points[-1], f"a{number}", **values))
    return points


def taken_every(
    step: timedelta,
    since: datetime,
    until: datetime,
    *,
    is_full: Callable[[datetime, int], bool],
    profile: str = "default",
    first_id: int = 1,
) -> list[RestorePoint]:
    """Give a history: a full where `is_full` says so of a moment and the deltas in the chain, else a delta."""
    points: list[RestorePoint] = []
    for number, moment in enumerate(_moments(step, since, until), first_id):
        point_id = f"{number:012x}"
        if not points or is_full(moment, points[-1].sequence):
            points.append(full(point_id, taken_at=moment, profile=profile))
        else:
            points.append(delta(points[-1], point_id, taken_at=moment))
    return points


def hourly(days: int) -> list[RestorePoint]:
    """Give the hourly incrementals of so many days until now, with a full after each 24."""
    return taken_every(HOUR, NOW - days * DAY, NOW, is_full=lambda _, deltas: deltas == 24)


def nightly(days: int, *, profile: str = "default", first_id: int = 1) -> list[RestorePoint]:
    """Give the nightly incrementals of so many days until now, with a full on each Sunday."""
    return taken_every(
        DAY,
        NOW - days * DAY,
        NOW,
        is_full=lambda moment, _: moment.weekday() == SUNDAY,
        profile=profile,
        first_id=first_id,
    )


def suspect(point: RestorePoint) -> RestorePoint:
    return replace(point, state=PointState.SUSPECT, state_reason="rows 12, the median of the 7 before it is 10000")


def damaged(point: RestorePoint) -> RestorePoint:
    return replace(point, state=PointState.DAMAGED, state_reason="pack 1f3c is missing")


def proven(point: RestorePoint) -> RestorePoint:
    return replace(point, proven_at=point.finished_at + HOUR)


def _moments(step: timedelta, since: datetime, until: datetime) -> Iterator[datetime]:
    while since <= until:
        yield since
        since += step
