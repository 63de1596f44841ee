"""Which restore points are kept, and why: grandfather, father, son on chains.

Slots are the days, ISO weeks and months (UTC) that have a point, so that a time without backups lets nothing go. The
newest point of a day has its slot; of a week and a month the newest full has it, or the newest point where there is no
full. What a kept point rests on is kept.

Slots are given as if these points were not there: suspect ones, damaged ones, those that cannot be restored, those
that a clock has put into the future. They are kept for somebody to look at; the damaged ones, and what rests on them,
until a newer point of the profile is proven; those whose parent the vault has no trace of until a newer one is whole.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final, Literal

from tasks.backups.choosing import newest_first, restorable
from tasks.backups.lineage import Lineage
from tasks.backups.points import PointState
from tasks.errors import PermanentError
from tasks.ledger.catching_up import runs_ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tasks.backups.points import RestorePoint
    from tasks.runtime import RetentionOptions

Grid = Literal["daily", "weekly", "monthly"]

_SLOT: Final[Mapping[Grid, str]] = {"daily": "day", "weekly": "week", "monthly": "month"}
_CALENDAR: Final[Mapping[Grid, str]] = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m"}
"""ISO weeks have years of their own: 2027-01-01 lies in 2026-W53."""


class UnsafeRetentionError(PermanentError):
    """A deletion would take what must stay; nothing may be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a point."""

    point: RestorePoint
    keep: bool
    reason: str


def decide_retention(
    points: Sequence[RestorePoint],
    rules: Mapping[str, RetentionOptions],
    *,
    now: datetime,
    stored: Collection[str] | None = None,
) -> list[Verdict]:
    """Decide about every point of a vault; the newest comes first. `rules` are those of this vault, by profile.

    Points of a profile without a rule are kept. `stored` are the ids of all points that the vault lists, those whose
    manifests cannot be read included; without it nothing goes because its parent is missing. What is left after the
    deletions is decided about in the same way.

    Raises:
        UnsafeRetentionError: the deletions would take what must stay. It is a fault of this module.
    """
    lineage = Lineage(points)
    known = newest_first({point.id: point for point in points}.values())
    keeps: dict[str, list[str]] = {}
    losses: dict[str, str] = {}
    for profile in sorted({point.profile for point in known}):
        own = [point for point in known if point.profile == profile]
        shelf = _sort_out(own, lineage, now=now, stored=stored)
        for point_id, reason in _keeps(shelf, rules.get(profile)):
            keeps.setdefault(point_id, []).append(reason)
        losses.update(_losses(shelf, rules.get(profile)))
    _keep_what_is_needed(known, lineage, keeps)
    verdicts = [_verdict(point, keeps.get(point.id), losses) for point in known]
    ensure_safe(verdicts)
    return verdicts


def ensure_safe(verdicts: Sequence[Verdict]) -> None:
    """Look at the verdicts on all points of a vault once more.

    Raises:
        UnsafeRetentionError: the deletions would take what must stay.
    """
    if why := why_not_delete([verdict.point for verdict in verdicts], deletions(verdicts)):
        raise UnsafeRetentionError(why)


def deletions(verdicts: Iterable[Verdict]) -> list[str]:
    """Give the ids of the points that may go, in an order in which none goes before what rests on it."""
    gone = [verdict.point for verdict in verdicts if not verdict.keep]
    return [point.id for point in sorted(gone, key=lambda point: (-point.sequence, point.taken_at, point.id))]


def why_not_delete(points: Sequence[RestorePoint], doomed: Collection[str]) -> str | None:
    """Say why these points may not be deleted together; None if they may.

    A point that stays may rest on one of them, an operator may hold one, or one may be the newest that was proven.
    """
    doomed = frozenset(doomed)
    for point in points:
        if point.id in doomed and point.is_held:
            return f"{point.id} may not be deleted: it is held"
        if point.id not in doomed and point.parent_id in doomed:
            return f"{point.parent_id} may not be deleted: {point.id} rests on it"
    for point, kind in _newest_proven(restorable(points)):
        if point.id in doomed:
            return f"{point.id} may not be deleted: it is the newest proven {kind} of the profile {point.profile}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shelf:
    """The points of a profile."""

    candidates: Sequence[RestorePoint]
    """Those that take slots, the newest first."""
    set_aside: Mapping[str, str]
    """Those that take none and are kept, with the reason."""
    useless: Mapping[str, str]
    """Those that take none and may go, with the reason."""
    held: Sequence[RestorePoint]


def _sort_out(
    points: Sequence[RestorePoint],
    lineage: Lineage[RestorePoint],
    *,
    now: datetime,
    stored: Collection[str] | None,
) -> _Shelf:
    candidates: list[RestorePoint] = []
    set_aside: dict[str, str] = {}
    useless: dict[str, str] = {}
    for point in points:  # the newest first: those seen before are newer
        if aside := _why_aside(point, lineage, now=now, stored=stored):
            set_aside[point.id] = aside
        elif fault := lineage.fault_of(point.id):
            if candidates:
                useless[point.id] = f"{fault}; {candidates[0].id} is newer and whole"
            else:
                set_aside[point.id] = f"{fault}; nothing newer is whole"
        elif damage := _damage(point, lineage):
            if proven := [newer for newer in candidates if newer.proven_at is not None]:
                useless[point.id] = f"{damage}; {proven[0].id} is newer and proven"
            else:
                set_aside[point.id] = f"{damage}; nothing newer is proven"
        else:
            candidates.append(point)
    held = [point for point in points if point.is_held]
    return _Shelf(candidates=candidates, set_aside=set_aside, useless=useless, held=held)


def _why_aside(
    point: RestorePoint, lineage: Lineage[RestorePoint], *, now: datetime, stored: Collection[str] | None
) -> str | None:
    if runs_ahead(point.taken_at, now=now):
        return "from the future: a clock ran ahead, or this one is behind"
    if point.state is PointState.SUSPECT:
        return f"suspect: {point.state_reason}" if point.state_reason else "suspect"
    missing = lineage.missing_for(point.id)
    if missing is not None and stored is not None and missing not in stored:
        return None
    # It may only look so to whoever could not read the whole vault.
    return lineage.fault_of(point.id)


def _damage(point: RestorePoint, lineage: Lineage[RestorePoint]) -> str | None:
    if point.state is PointState.DAMAGED:
        return f"damaged: {point.state_reason}" if point.state_reason else "damaged"
    for ancestor in lineage.ancestors_of(point.id):
        if ancestor.state is PointState.DAMAGED:
            return f"rests on {ancestor.id}, which is damaged"
    return None


def _keeps(shelf: _Shelf, rule: RetentionOptions | None) -> Iterator[tuple[str, str]]:
    """Give the ids that are kept for their own sake, with a reason; one may have several."""
    if rule is None:
        everything = (*(point.id for point in shelf.candidates), *shelf.useless)
        yield from ((point_id, "the settings have no profile of this name") for point_id in everything)
    else:
        for grid in _SLOT:
            yield from _slots_kept(grid, shelf.candidates, _count(rule, grid))
    yield from ((point.id, "newest") for point in shelf.candidates[:1])
    yield from ((point.id, f"newest proven {kind}") for point, kind in _newest_proven(shelf.candidates))
    yield from ((point.id, "held") for point in shelf.held)
    yield from shelf.set_aside.items()


def _slots_kept(grid: Grid, candidates: Sequence[RestorePoint], count: int) -> Iterator[tuple[str, str]]:
    slots = _slots(grid, candidates)
    for slot in list(slots)[:count]:
        point = slots[slot]
        what = "the newest" if grid == "daily" or point.kind != "full" else "the newest full"
        yield point.id, f"{grid} {slot}, {what} of its {_SLOT[grid]}"


def _slots(grid: Grid, candidates: Sequence[RestorePoint]) -> dict[str, RestorePoint]:
    """Give the point that takes each slot, the newest slot first."""
    slots: dict[str, RestorePoint] = {}
    for point in candidates:
        slot = _slot_of(point, grid)
        is_better = grid != "daily" and point.kind == "full" and slot in slots and slots[slot].kind != "full"
        if slot not in slots or is_better:
            slots[slot] = point
    return slots


def _losses(shelf: _Shelf, rule: RetentionOptions | None) -> Iterator[tuple[str, str]]:
    """Give for each point that may go why nothing keeps it."""
    yield from shelf.useless.items()
    if rule is None:
        return
    kept = {grid: dict(list(_slots(grid, shelf.candidates).items())[: _count(rule, grid)]) for grid in _SLOT}
    for point in shelf.candidates:
        yield point.id, ", ".join(_loss(point, grid, kept[grid]) for grid in _SLOT)


def _loss(point: RestorePoint, grid: Grid, kept: Mapping[str, RestorePoint]) -> str:
    holder = kept.get(_slot_of(point, grid))
    if holder is None:
        return f"older than the newest {len(kept)} {_SLOT[grid]}s" if kept else f"no {_SLOT[grid]} is kept"
    return f"its {_SLOT[grid]} has {holder.id}"


def _newest_proven(newest_to_oldest: Iterable[RestorePoint]) -> Iterator[tuple[RestorePoint, str]]:
    seen: set[tuple[str, str]] = set()
    for point in newest_to_oldest:
        if point.proven_at is not None and (point.profile, point.kind) not in seen:
            seen.add((point.profile, point.kind))
            yield point, point.kind


def _keep_what_is_needed(
    known: Sequence[RestorePoint], lineage: Lineage[RestorePoint], keeps: dict[str, list[str]]
) -> None:
    needed: defaultdict[str, list[str]] = defaultdict(list)
    for point in known:
        if point.id in keeps:
            for ancestor in lineage.ancestors_of(point.id):
                needed[ancestor.id].append(point.id)
    for point_id, by in needed.items():
        others = f" and {len(by) - 1} more" if len(by) > 1 else ""
        keeps.setdefault(point_id, []).append(f"needed by {by[0]}{others}")


def _verdict(point: RestorePoint, keeps: Sequence[str] | None, losses: Mapping[str, str]) -> Verdict:
    if keeps:
        return Verdict(point=point, keep=True, reason="; ".join(keeps))
    return Verdict(point=point, keep=False, reason=losses[point.id])


def _slot_of(point: RestorePoint, grid: Grid) -> str:
    return point.taken_at.astimezone(UTC).strftime(_CALENDAR[grid])


def _count(rule: RetentionOptions, grid: Grid) -> int:
    return max(0, {"daily": rule.daily, "weekly": rule.weekly, "monthly": rule.monthly}[grid])
