"""What one run at a time may use, by name: who holds it, and who may take it from whom.

A hold is part of the claim of its run: renewed with it, gone with its outcome. Its fence grows with each holder, and
may be handed to whatever guards the thing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from tasks.ledger.runs import as_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

DEFER_AT_MOST: Final = timedelta(seconds=15)
"""A run that waits for a resource asks for it this often. It costs a claim each time, and no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource as it stands in the table; the columns of `ResourceLease` say what each field means."""

    resource: str
    fence: int
    run_id: str | None
    run_fence: int | None
    worker: str | None
    taken_at: datetime | None
    lease_until: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


def is_held_by(resource: Resource, *, run_id: str, run_fence: int) -> bool:
    """Say whether this claim of the run holds it."""
    return resource.run_id == run_id and resource.run_fence == run_fence


def is_free_for(resource: Resource, run_id: str, *, now: datetime) -> bool:
    """Say whether a run may take it: nobody has it, or a holder that fell silent, or an earlier claim of the run."""
    if resource.run_id is None or resource.run_id == run_id:
        return True
    return resource.lease_until is None or resource.lease_until <= now


def first_busy(resources: Iterable[Resource], run_id: str, *, now: datetime) -> Resource | None:
    """Give the first that another run holds."""
    return next((one for one in resources if not is_free_for(one, run_id, now=now)), None)


def busy_text(resource: Resource) -> str:
    """Say who is in the way; the same words as long as it is the same holder."""
    return f"{resource.resource} is in use by run {resource.run_id} on {resource.worker}"


def ask_again_at(resource: Resource, *, now: datetime) -> datetime:
    """Say when a run that found it in use tries again: soon, and at once where the holder's lease ends."""
    soon = now + DEFER_AT_MOST
    # By a clock that is ahead of the database's it may be over already, and is not to be had all the same.
    return soon if resource.lease_until is None or resource.lease_until <= now else min(soon, resource.lease_until)
