"""Forgets what has ended long ago, so that the database does not grow without bound; a step of the reconciler."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from tasks.ledger.pings import GIVE_UP_AFTER
from tasks.ledger.retention import retention_rules, why_too_old
from tasks.ledger.store import pings, queries, retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ledger.runs import WantedRun
    from tasks.runtime import Runtime

BUDGET_S: Final = 5.0
"""For one pass. What is left over is for the next, a minute later."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What a pass has deleted, as counts."""

    runs: int
    letters: int
    """Dead letters whose time was over."""
    letters_over_cap: int
    """Dead letters that went before their time, because there were too many."""
    pings: int


def forget_old(runtime: Runtime, *, budget_s: float = BUDGET_S) -> Forgotten:
    """Delete in small transactions what is kept no longer, until nothing is left of it or the time is used up.

    Raises:
        TransientError: the database was in the way; what was deleted until then stays deleted.
    """
    engine, options, now = runtime.engine, runtime.ledger, runtime.clock()
    ends_at = time.monotonic() + budget_s
    give_up_pings(runtime)
    rules = retention_rules(options, now=now)
    old_letters = partial(
        retention.forget_letters,
        received_before=now - options.keep_dead_letters,
        retried_before=now - options.keep_retried_letters,
    )
    forgotten = Forgotten(
        runs=sum(_repeat(partial(retention.forget_runs, engine, rule), ends_at) for rule in rules),
        letters=_repeat(partial(old_letters, engine), ends_at),
        letters_over_cap=_repeat(partial(retention.drop_letters, engine, most=options.max_dead_letters), ends_at),
        pings=_repeat(partial(retention.forget_pings, engine, before=now - options.keep_pings), ends_at),
    )
    if forgotten.letters_over_cap:
        _log.error("ledger.letters_dropped", count=forgotten.letters_over_cap, cap=options.max_dead_letters)
    return forgotten


def why_forgotten(runtime: Runtime, wanted: WantedRun) -> str | None:
    """Say why a job that asks to be run may have been done before its row was forgotten; None: run it.

    Raises:
        TransientError: the database was in the way.
    """
    reason = why_too_old(wanted.kind, wanted.enqueued_at, runtime.ledger, now=runtime.clock())
    return None if reason is None or queries.exists(runtime.engine, wanted.id) else reason


def give_up_pings(runtime: Runtime) -> int:
    """Give up the pings that no sender has looked at for a day: their entry may have lost its address."""
    now = runtime.clock()
    before, error = now - 2 * GIVE_UP_AFTER, "nobody has sent it: its entry has no address any more, or no sender runs"
    if count := pings.give_up_unsent(runtime.engine, before=before, error=error, now=now):
        _log.error("ledger.pings_given_up", count=count, reason=error)
    return count


def _repeat(step: Callable[[], int], ends_at: float) -> int:
    total = 0
    while time.monotonic() < ends_at and (count := step()):
        total += count
    return total
