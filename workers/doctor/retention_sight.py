"""Looks at what the ledger keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.ledger.retention import retention_rules
from tasks.ledger.store import pings, retention
from workers.doctor.retention import BEHIND, PING_MEMORY, KeptFacts

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def see_kept(runtime: Runtime) -> KeptFacts:
    """Look at what is kept.

    Raises:
        TransientError: the database went away.
    """
    engine, now = runtime.engine, runtime.clock()
    rules = retention_rules(runtime.ledger, now=now)
    overdue = [replace(rule, before=rule.before - BEHIND) for rule in rules]
    return KeptFacts(
        given_up=pings.given_up(engine, since=now - PING_MEMORY),
        letters=retention.count_letters(engine),
        letters_cap=runtime.ledger.max_dead_letters,
        is_behind=any(retention.has_runs(engine, rule) for rule in overdue),
    )
