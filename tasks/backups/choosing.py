"""Which restore point an operator means: the beginning of an id, or `latest`, `latest-full`, `latest-proven`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.backups.lineage import Lineage
from tasks.backups.points import PointState
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.backups.points import RestorePoint

NICKNAMES: Final = ("latest", "latest-full", "latest-proven")
_MOST_SHOWN: Final = 5
_ID_DIGITS: Final = frozenset("0123456789abcdef")


class PointNotFoundError(PermanentError):
    """No point, or more than one, is meant; the text says which there are."""


def choose_point(points: Sequence[RestorePoint], wanted: str, *, profile: str | None = None) -> RestorePoint:
    """Find the point that is meant.

    The nicknames skip what cannot be restored: damaged points and all that rest on one. A suspect point is not
    skipped, it is what was there at that moment. The beginning of an id finds every point.

    Raises:
        PointNotFoundError: none or several are meant.
    """
    within = [point for point in points if profile in {None, point.profile}]
    where = "" if profile is None else f" of the profile {profile}"
    if not within:
        msg = f"there is no restore point{where} yet: take one with `nightcrew backup full`"
        raise PointNotFoundError(msg)
    if wanted in NICKNAMES:
        return _newest(within, wanted, where)
    return _by_prefix(within, wanted.strip().lower(), where)


def restorable(points: Sequence[RestorePoint]) -> list[RestorePoint]:
    """Give the points whose whole path is there and undamaged, the newest first."""
    lineage = Lineage(points)
    damaged = {point.id for point in points if point.state is PointState.DAMAGED}
    broken = {*lineage.broken(), *damaged}
    broken.update(child.id for point_id in damaged for child in lineage.needed_by(point_id))
    return newest_first(point for point in points if point.id not in broken)


def newest_first(points: Iterable[RestorePoint]) -> list[RestorePoint]:
    """Order points by the moment that they were taken at; ids decide between equal ones."""
    return sorted(points, key=lambda point: (point.taken_at, point.id), reverse=True)


def _newest(points: Sequence[RestorePoint], nickname: str, where: str) -> RestorePoint:
    passes = _PASSES[nickname]
    for point in restorable(points):
        if passes(point):
            return point
    msg = f"none of the {len(points)} restore points{where} is {_MEANING[nickname]}; see `nightcrew backup list`"
    raise PointNotFoundError(msg)


def _by_prefix(points: Sequence[RestorePoint], prefix: str, where: str) -> RestorePoint:
    if not prefix or not _ID_DIGITS.issuperset(prefix):
        msg = f"{prefix!r} is no restore point: give the beginning of an id, or one of {', '.join(NICKNAMES)}"
        raise PointNotFoundError(msg)
    found = newest_first({point.id: point for point in points if point.id.startswith(prefix)}.values())
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"{prefix} is the beginning of {len(found)} restore points: {_shown(found)}; give more of the id"
        raise PointNotFoundError(msg)
    msg = f"no restore point{where} begins with {prefix}; the newest are {_shown(newest_first(points))}"
    raise PointNotFoundError(msg)


def _shown(points: Sequence[RestorePoint]) -> str:
    shown = ", ".join(
        f"{point.id} ({point.kind}, {point.taken_at:%Y-%m-%d %H:%M} UTC)" for point in points[:_MOST_SHOWN]
    )
    return f"{shown}, …" if len(points) > _MOST_SHOWN else shown


_PASSES: Final[dict[str, Callable[[RestorePoint], bool]]] = {
    "latest": lambda _: True,
    "latest-full": lambda point: point.kind == "full",
    "latest-proven": lambda point: point.proven_at is not None,
}
_MEANING: Final = {
    "latest": "whole enough to be restored",
    "latest-full": "a full that can be restored",
    "latest-proven": "proven by a restore and still whole",
}
