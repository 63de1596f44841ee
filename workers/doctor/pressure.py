"""Checks of what waits of each kind of job, and how much of it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from workers.doctor.limits import Limits

_MUCH = 10
"""So many times a limit is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """What waits of a kind."""

    kind: str
    queued: int
    """Runs that are queued in the ledger, whatever became of their messages."""
    oldest_age: timedelta | None
    """Of the one of them that could have begun the longest; None when there is none."""
    counted: int
    """What apps count against the cap: these runs, and the jobs that are not in the ledger yet."""
    cap: int | None
    """None when apps are told none."""


def check_queued_runs(kinds: Collection[KindFacts], limits: Limits) -> Finding:
    """Judge how long runs wait, also those whose message was lost and that stand on no queue."""
    aged = [(one.oldest_age, one) for one in kinds if one.oldest_age is not None]
    if not aged:
        return ok("queued-runs", "no run waits")
    age, oldest = max(aged, key=lambda pair: pair[0])
    detail = f"the oldest of {oldest.queued:,} queued runs of {oldest.kind} waits for {age.total_seconds():,.0f} s"
    if age <= limits.queue_age:
        return ok("queued-runs", detail)
    fix = f"nightcrew jobs list --state queued --kind {oldest.kind}"
    return (error if age > _MUCH * limits.queue_age else warning)("queued-runs", detail, fix=fix)


def check_caps(kinds: Collection[KindFacts], limits: Limits) -> Finding:
    """Judge whether apps are refused, or soon will be. A cap of 0 was set to refuse them."""
    filled = [(one.counted / one.cap, one) for one in kinds if one.cap]
    if not filled:
        return ok("queue-caps", "no kind has a cap")
    share, fullest = max(filled, key=lambda pair: pair[0])
    detail = f"{fullest.counted:,} jobs of {fullest.kind} wait, and at most {fullest.cap:,} may"
    if share < limits.full_queue_share:
        return ok("queue-caps", detail)
    fix = f"export NIGHTCREW_LEDGER__QUEUE_CAPS='{{\"{fullest.kind}\": {2 * (fullest.cap or 0)}}}'"
    if share < 1:
        return warning("queue-caps", detail, fix=fix)
    return error("queue-caps", f"{detail}: apps are refused", fix=fix)
