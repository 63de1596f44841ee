"""The states of a run, the ways between them, and who decides what: values in, decisions with reasons out.

    queued ──claim──▶ running ──▶ succeeded
      ▲                 │ ├─────▶ failed      trying again cannot help
      │                 │ └─────▶ dead        no attempts left
      ├──retry, expiry──┘
      └──operator── failed, dead, missed

`missed` is a slot that may not be caught up, `cancelled` a run that was called off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    MISSED = "missed"
    CANCELLED = "cancelled"


OUTCOMES: Final = frozenset({State.SUCCEEDED, State.FAILED, State.DEAD, State.MISSED, State.CANCELLED})
"""Nothing but an operator leads out of these."""

RETRYABLE: Final = frozenset({State.FAILED, State.DEAD, State.MISSED})
"""An operator may put these on the queue again."""

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.DEAD, State.MISSED, State.CANCELLED}),
    # From running to running: a twin takes over a run whose lease has expired.
    State.RUNNING: frozenset({State.RUNNING, State.QUEUED, State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.DEAD: frozenset({State.QUEUED}),
    State.MISSED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset(),
}


class Standing(Protocol):
    """What the decisions need to know of a run."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def attempt(self) -> int:
        """Attempts begun."""

    @property
    def max_attempts(self) -> int | None:
        """Their limit when it was last claimed."""

    @property
    def worker(self) -> str | None:
        """Who claimed it last."""

    @property
    def lease_until(self) -> datetime | None:
        """When that claim ends."""

    @property
    def published_at(self) -> datetime | None:
        """When its message was last put on the queue; None while none is out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDecision:
    """What a worker does that got a message for a run."""

    action: Literal["take", "skip", "bury"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A state to go to, and why."""

    to: State
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether something is done, and why."""

    yes: bool
    reason: str


def decide_claim(run: Standing, *, now: datetime, max_attempts: int) -> ClaimDecision:
    """Decide whether the bearer of a message may work on the run."""
    if run.state in OUTCOMES:
        return ClaimDecision(action="skip", reason=f"the run has ended as {run.state}")
    if run.state is State.RUNNING and not lease_expired(run, now=now):
        return ClaimDecision(action="skip", reason=f"{run.worker} works on the run")
    if run.attempt >= max_attempts:
        return ClaimDecision(action="bury", reason=_exhausted(run.attempt, max_attempts))
    if run.state is State.RUNNING:
        return ClaimDecision(action="take", reason=f"the lease of {run.worker} has expired")
    return ClaimDecision(action="take", reason="the run is queued")


def decide_after_error(*, attempt: int, max_attempts: int, permanent: bool) -> Move:
    """Decide what becomes of a run whose work raised an error.

    An error that no job has named counts as transient: most of what nobody thought of is the world in the
    way, and the limit of attempts bounds the rest.
    """
    if permanent:
        return Move(to=State.FAILED, reason="trying again cannot help")
    if attempt >= max_attempts:
        return Move(to=State.DEAD, reason=_exhausted(attempt, max_attempts))
    return Move(to=State.QUEUED, reason=f"attempt {attempt} of {max_attempts} failed")


def decide_requeue(run: Standing, *, now: datetime, default_max_attempts: int) -> Move | None:
    """Decide what becomes of a run whose worker may be gone; None leaves it alone."""
    if run.state is not State.RUNNING or not lease_expired(run, now=now):
        return None
    max_attempts = run.max_attempts or default_max_attempts
    if run.attempt >= max_attempts:
        return Move(to=State.DEAD, reason=f"{_exhausted(run.attempt, max_attempts)}; {run.worker} fell silent")
    return Move(to=State.QUEUED, reason=f"{run.worker} fell silent in attempt {run.attempt} of {max_attempts}")


def decide_republish(run: Standing, *, oldest_waiting_at: datetime | None) -> Verdict:
    """Decide whether a queued run that nobody started needs another message.

    A queue is first in, first out. As long as its oldest message is older than the last one of this run,
    that one may still be waiting behind it: another would only make a long queue longer.
    """
    if run.published_at is None:
        return Verdict(yes=True, reason="no message is out")
    if oldest_waiting_at is None:
        return Verdict(yes=True, reason="its queue is empty")
    if oldest_waiting_at > run.published_at:
        return Verdict(yes=True, reason="its queue has moved past its message")
    return Verdict(yes=False, reason="its message may still be waiting")


def decide_retry(run: Standing) -> Verdict:
    """Decide whether an operator may put the run on the queue again."""
    if run.state in RETRYABLE:
        return Verdict(yes=True, reason=f"the run has ended as {run.state}")
    if run.state in OUTCOMES:
        return Verdict(yes=False, reason=f"the run has ended as {run.state}: enqueue a new one instead")
    return Verdict(yes=False, reason=f"the run is {run.state} and will end by itself")


def lease_expired(run: Standing, *, now: datetime) -> bool:
    """Say whether a running run may be taken from its worker."""
    return run.lease_until is None or run.lease_until <= now


def _exhausted(attempt: int, max_attempts: int) -> str:
    return f"{attempt} of {max_attempts} attempts are used up"
