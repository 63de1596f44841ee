"""Whether a point is suspiciously small beside those before it.

A backup that went well of a database that somebody has emptied is worth less than the one before it. Such a point is
suspect until an operator says that it is right (then it is `stored` again, with the reason); it is compared with
nothing, and what comes after an accepted one is compared with points from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tasks.backups.choosing import newest_first
from tasks.backups.eta import bytes_text
from tasks.backups.points import PointState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.backups.points import RestorePoint

COMPARED: Final = 7
"""How many of the newest comparable points the median is of."""
FEWEST: Final = 3
"""With fewer there is no median worth the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeJudgement:
    """What is thought of the size of a point."""

    is_suspect: bool
    is_judged: bool
    """False where there is too little to compare with."""
    reason: str


def judge_size(point: RestorePoint, others: Iterable[RestorePoint], *, shrink_share: float) -> SizeJudgement:
    """Compare rows with all points of the profile before it, and, of a full, what was staged with the fulls.

    It is suspect if either is below `shrink_share` of the median of the newest seven that are comparable.
    """
    comparable = _comparable(point, others)
    fulls = [other for other in comparable if point.kind == other.kind == "full"]
    comparisons = [
        _compare("rows", point.rows, [other.rows for other in comparable], shrink_share, str),
        _compare("staged bytes", point.staged_bytes, [other.staged_bytes for other in fulls], shrink_share, bytes_text),
    ]
    judged = [comparison for comparison in comparisons if comparison is not None]
    suspicions = [reason for is_small, reason in judged if is_small]
    if not judged:
        reason = f"not judged: fewer than {FEWEST} points before it to compare with"
    else:
        reason = "; ".join(suspicions or [reason for _, reason in judged])
    return SizeJudgement(is_suspect=bool(suspicions), is_judged=bool(judged), reason=reason)


def _comparable(point: RestorePoint, others: Iterable[RestorePoint]) -> list[RestorePoint]:
    """Give the points before it that count, the newest first; none from before the newest that was accepted."""
    before = [
        other
        for other in others
        if other.profile == point.profile
        and other.state is PointState.STORED
        and (other.taken_at, other.id) < (point.taken_at, point.id)
    ]
    found: list[RestorePoint] = []
    for other in newest_first(before):
        found.append(other)
        if other.state_reason:
            break
    return found


def _compare(
    what: str, value: int | None, before: Sequence[int | None], share: float, shown: Callable[[int], str]
) -> tuple[bool, str] | None:
    known = [number for number in before if number is not None][:COMPARED]
    if value is None or len(known) < FEWEST:
        return None
    middle = median(known)
    is_small = value < share * middle
    figures = f"{what} {shown(value)}, the median of the {len(known)} before it is {shown(round(middle))}"
    return is_small, f"{figures}: below {share:.0%} of it" if is_small else figures
