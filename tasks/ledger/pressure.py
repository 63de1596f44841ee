"""Backpressure: how much waits of each kind, and how much may; a step of the reconciler keeps both right.

Only what apps enqueue is refused over a cap. The timetable, retries and operators are not: what they want is little,
and refusing it would turn a full queue into missed work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from nightcrew.messages import kinds
from tasks.ledger.runs import as_json
from tasks.ledger.store import waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tasks.ledger.dead_letters import DeadLetter
    from tasks.runtime import LedgerOptions, Runtime

ALL_OTHERS = "*"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDepth:
    """What waits of a kind."""

    kind: str
    queued: int
    """Runs that are queued in the ledger."""
    oldest_at: datetime | None
    """When the one of them was queued that could have begun the longest. It is seen also if its message is lost."""
    counted: int
    """What apps count against the cap: the queued runs, and the jobs that the ledger has not taken in yet."""
    cap: int | None
    """What apps are told; None: nothing."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


def caps_of(options: LedgerOptions) -> dict[str, int]:
    """Give the caps as apps read them."""
    return {ALL_OTHERS: options.queue_cap, **options.queue_caps}


def publish_caps(runtime: Runtime) -> None:
    """Tell apps how many of their jobs may wait.

    Raises:
        TransientError: the broker was in the way.
    """
    if waiting.publish_caps(runtime.redis, wanted := caps_of(runtime.ledger)):
        _log.info("ledger.caps_published", caps=wanted)


def kind_depths(runtime: Runtime) -> list[KindDepth]:
    """Look at all kinds, in the order of their names.

    Raises:
        TransientError: database or broker were in the way.
    """
    queued = waiting.queued_runs(runtime.engine, now=runtime.clock())
    names = sorted(kinds() | queued.keys())
    counted, caps = waiting.count_waiting(runtime.redis, names), waiting.read_caps(runtime.redis)
    return [
        KindDepth(
            kind=kind,
            queued=queued[kind].count if kind in queued else 0,
            oldest_at=queued[kind].oldest_at if kind in queued else None,
            counted=counted[kind],
            cap=caps.get(kind, caps.get(ALL_OTHERS)),
        )
        for kind in names
    ]


def mend_counts(runtime: Runtime) -> int:
    """Publish the caps, and let apps count what really waits; give how many ids were added or removed.

    The ids are only compared where the numbers differ: two mistakes that make up for one another harm nobody, and are
    seen as soon as one of them goes.

    Raises:
        TransientError: database or broker were in the way.
    """
    publish_caps(runtime)
    differing = [depth.kind for depth in kind_depths(runtime) if depth.counted != depth.queued]
    # Removing comes last: a run that is claimed in between may be added by mistake, and is found again by it.
    mended = sum(_add_missing(runtime, kind) + _remove_gone(runtime, kind) for kind in differing)
    if mended:
        _log.info("ledger.waiting_mended", kinds=differing, ids=mended)
    return mended


def forget_refused(runtime: Runtime, letters: Sequence[DeadLetter]) -> None:
    """Count intents that became dead letters as waiting no more; their kinds need not be known."""
    for letter in letters:
        if letter.kind and letter.job_id:
            waiting.remove(runtime.redis, letter.kind, [letter.job_id])


def _add_missing(runtime: Runtime, kind: str) -> int:
    return sum(waiting.add(runtime.redis, kind, part) for part in waiting.queued_ids(runtime.engine, kind))


def _remove_gone(runtime: Runtime, kind: str) -> int:
    removed = 0
    for part in waiting.waiting_ids(runtime.redis, kind):
        # Looked at in this order, because this is the way a job takes: into the stream, into SQL, out of the stream.
        oldest = waiting.oldest_intent_at(runtime.redis)
        taken_in = [job_id for job_id, enqueued_at in part.items() if oldest is None or enqueued_at < oldest]
        gone = set(taken_in) - waiting.still_queued(runtime.engine, kind, taken_in)
        removed += waiting.remove(runtime.redis, kind, gone)
    return removed
