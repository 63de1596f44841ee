"""Checks of what is kept: pings that were given up, dead letters over their cap, rows that should be gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.ledger.store.pings import GivenUp

PING_MEMORY: Final = timedelta(days=1)
"""How long a ping that was given up is worth an error: its switch may believe that all is well."""

BEHIND: Final = timedelta(days=1)
"""So long after its time a row should be gone: the reconciler deletes each minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFacts:
    """What is kept, and should not be, or should have been sent."""

    given_up: GivenUp | None
    """Pings that did not get through lately."""
    letters: int
    """All dead letters, those included that were tried again."""
    letters_cap: int
    is_behind: bool
    """Whether a run is still there a day after its time."""


def check_kept(facts: KeptFacts) -> Iterator[Finding]:
    """Judge what is kept."""
    yield check_pings(facts.given_up)
    yield check_letters_cap(facts.letters, facts.letters_cap)
    yield check_retention(is_behind=facts.is_behind)


def check_pings(given_up: GivenUp | None) -> Finding:
    """Judge whether the dead-man switches hear of the runs they watch."""
    hours = PING_MEMORY / timedelta(hours=1)
    if given_up is None:
        return ok("pings", f"none given up in {hours:g} h")
    detail = f"{given_up.count} given up in {hours:g} h, the last of {given_up.entry}: {given_up.error}"
    return error("pings", detail, fix="nightcrew config show --origin   # schedule.ping_url, schedule.ping_urls")


def check_letters_cap(count: int, cap: int) -> Finding:
    """Judge whether dead letters are dropped: from the cap on, each new one costs an old one."""
    if count < cap:
        return ok("dead-letters-cap", f"{count} of {cap} letters")
    return error("dead-letters-cap", f"{count} letters: over {cap} the oldest are dropped", fix="nightcrew jobs dead")


def check_retention(*, is_behind: bool) -> Finding:
    """Judge whether the database is kept from growing."""
    if not is_behind:
        return ok("retention", "what is old is forgotten in time")
    detail = "runs are still there a day after their time: the reconciler does not get to it"
    return warning("retention", detail, fix="nightcrew enqueue ledger.reconcile --wait 60")
