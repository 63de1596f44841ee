"""How long the ledger remembers what has ended, and what it may say to a message that is older: pure decisions.

A run is forgotten by its row. From then on nothing tells a message that was done from one that is new, so no message
older than that may begin a run any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nightcrew.messages import CollectAccess, DrainUsage, ReconcileLedger, RunCanary
from tasks.ledger.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.runtime import LedgerOptions

MAINTENANCE_KINDS: Final = (CollectAccess.kind, DrainUsage.kind, ReconcileLedger.kind, RunCanary.kind)
"""The crew's own upkeep: unless they failed, their runs tell nobody anything for long."""

_WENT_WELL: Final = frozenset({State.SUCCEEDED, State.CANCELLED})
_WENT_WRONG: Final = frozenset({State.FAILED, State.DEAD, State.MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Runs of these states that were both asked for and ended before an instant.

    Both, because the message of a forgotten run is told by when it was asked for, and the clock of an app may be ahead.
    """

    states: frozenset[State]
    is_maintenance: bool
    before: datetime


def retention_rules(options: LedgerOptions, *, now: datetime) -> tuple[RetentionRule, ...]:
    """Give what may be forgotten at a moment; no run falls under two rules."""
    upkeep_went_well = _WENT_WELL | {State.MISSED}
    upkeep_went_wrong = _WENT_WRONG - {State.MISSED}
    return (
        RetentionRule(states=upkeep_went_well, is_maintenance=True, before=now - options.keep_maintenance),
        RetentionRule(states=upkeep_went_wrong, is_maintenance=True, before=now - options.keep_failed),
        RetentionRule(states=_WENT_WELL, is_maintenance=False, before=now - options.keep_runs),
        RetentionRule(states=_WENT_WRONG, is_maintenance=False, before=now - options.keep_failed),
    )


def why_too_old(kind: str, enqueued_at: datetime, options: LedgerOptions, *, now: datetime) -> str | None:
    """Say why a job without a row may have been done long ago; None when that cannot be.

    Whatever was forgotten had been asked for before the shortest time for which its kind is kept. A job that was asked
    for since then and has no row is new.
    """
    is_maintenance = kind in MAINTENANCE_KINDS
    rules = (rule for rule in retention_rules(options, now=now) if rule.is_maintenance is is_maintenance)
    if enqueued_at >= max(rule.before for rule in rules):
        return None
    return f"too old: its run, asked for at {enqueued_at.isoformat(timespec='seconds')}, may have been forgotten"
