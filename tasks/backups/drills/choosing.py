"""Which point is drilled next: what nobody has proven yet, and of that the sort that has waited longest.

A point stands for its sort: its kind, how many deltas it rests on, and how old it is. What is unproven is drilled
before what is proven, a sort that never had a proof before one that had, and the oldest point before newer ones.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from tasks.backups.choosing import PointNotFoundError, restorable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tasks.backups.points import Kind, RestorePoint

AGES: Final = (timedelta(days=1), timedelta(days=7), timedelta(days=31), timedelta(days=92))
"""Upper ends of the age buckets; what is older is a bucket of its own."""

DEPTHS: Final = (0, 3, 9)
"""Upper ends of the buckets of how many deltas are applied; more is a bucket of its own."""

WAIT_AFTER_NO_VERDICT: Final = timedelta(days=6)
"""A point whose drill came to no verdict lets the others go first for so long: what is in its way may stay there."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Sort(NamedTuple):
    """What a point stands for when it is drilled."""

    age: int
    """Number of its bucket in `AGES`."""
    depth: int
    """Number of its bucket in `DEPTHS`."""
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The point that is drilled, and why this one."""

    point: RestorePoint
    reason: str


def choose_due(points: Sequence[RestorePoint], *, now: datetime, tried: Mapping[str, datetime] | None = None) -> Due:
    """Choose the point whose proof is most due, of those that can be restored; a suspect one is a point as any.

    `tried` says by point when its last drill ended, whatever it found.

    Raises:
        PointNotFoundError: there is none that can be restored.
    """
    candidates = restorable(points)
    if not candidates:
        msg = _nothing(points)
        raise PointNotFoundError(msg)
    proofs = _proofs(points, now)
    waits = {point.id for point in candidates if _waits(point, (tried or {}).get(point.id), now)}

    def rank(point: RestorePoint) -> tuple[bool, bool, datetime, datetime, datetime, str]:
        proof = proofs.get(sort_of(point, now), _NEVER)
        proven_at = point.proven_at or _NEVER
        return point.id in waits, point.proven_at is not None, proof, proven_at, point.taken_at, point.id

    chosen = min(candidates, key=rank)
    return Due(point=chosen, reason=_reason(chosen, proofs.get(sort_of(chosen, now)), now))


def sort_of(point: RestorePoint, now: datetime) -> Sort:
    """Say what a point stands for now."""
    age = bisect_left(AGES, now - point.taken_at)
    return Sort(age=age, depth=bisect_left(DEPTHS, point.sequence), kind=point.kind)


def _proofs(points: Iterable[RestorePoint], now: datetime) -> dict[Sort, datetime]:
    """Say of each sort when it was last proven; one that never was is left out."""
    newest: dict[Sort, datetime] = {}
    for point in points:
        if point.proven_at is not None:
            sort = sort_of(point, now)
            newest[sort] = max(newest.get(sort, _NEVER), point.proven_at)
    return newest


def _waits(point: RestorePoint, tried_at: datetime | None, now: datetime) -> bool:
    """Say whether its last drill came to no verdict, and not long ago."""
    if tried_at is None or now - tried_at > WAIT_AFTER_NO_VERDICT:
        return False
    return point.proven_at is None or point.proven_at < tried_at


def _reason(point: RestorePoint, proof: datetime | None, now: datetime) -> str:
    days = (now - point.taken_at).days
    own = "never proven" if point.proven_at is None else f"proven last on {point.proven_at:%Y-%m-%d}"
    deltas = f", {point.sequence} deltas deep" if point.sequence else ""
    sort = f"{point.kind}{deltas}, {days} days old"
    if proof is None:
        return f"{own}; no point of its sort ({sort}) was ever proven"
    return f"{own}; the last proof of its sort ({sort}) is of {proof:%Y-%m-%d}"


def _nothing(points: Sequence[RestorePoint]) -> str:
    if not points:
        return "there is no restore point to drill yet: take one with `nightcrew backup full`"
    return f"none of the {len(points)} restore points can be restored: take a full backup, see `nightcrew backup list`"
