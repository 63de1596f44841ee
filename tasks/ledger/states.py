"""The states of a run, the ways between them, and who decides what: values in, decisions with reasons out.

    queued ──claim──▶ running ──▶ succeeded
     ▲ │ │              │ ├─────▶ failed      trying again cannot help
     │ │ │              │ ├─────▶ dead        no attempts left
     │ │ └──────────────│─┴─────▶ cancelled   somebody called it off
     │ └────────────────│───────▶ missed      too late to begin, or a slot that may not be caught up
     ├───error, expiry──┘
     └──operator── failed, dead, missed, cancelled

A run that somebody calls off while it runs is asked to stop: it ends as cancelled where it next asks, where it fails
or where its worker is found dead. Work that gets through all the same has succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol

from tasks.ledger.catching_up import runs_ahead

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

RETRYABLE: Final = OUTCOMES - {State.SUCCEEDED}
"""An operator may put these on the queue again. A cancelled run is one of them: nothing of it has succeeded, so nothing
is done twice, and whoever called it off may have been mistaken."""

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    # From queued to queued: what it needs is in use, and it waits on.
    State.QUEUED: frozenset(
        {State.QUEUED, State.RUNNING, State.FAILED, State.DEAD, State.MISSED, State.CANCELLED},
    ),
    # From running to running: a twin takes over a run whose lease has expired, or somebody asks it to stop.
    State.RUNNING: frozenset({State.RUNNING, State.QUEUED, State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.DEAD: frozenset({State.QUEUED}),
    State.MISSED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
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

    @property
    def first_started_at(self) -> datetime | None:
        """When its first attempt began."""

    @property
    def slot_at(self) -> datetime | None:
        """The instant of the timetable that it is the run of."""

    @property
    def start_before(self) -> datetime | None:
        """When it is too late for the first attempt to begin."""

    @property
    def cancel_requested_at(self) -> datetime | None:
        """When somebody called it off while it ran."""

    @property
    def cancel_reason(self) -> str | None:
        """Who did, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDecision:
    """What a worker does that got a message for a run."""

    action: Literal["take", "skip", "bury", "miss", "cancel"]
    """The last three end the run."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDecision:
    """What comes of calling a run off."""

    action: Literal["cancel", "request", "wait", "refuse"]
    """End it at once, ask its worker to stop, go on waiting for the worker that was asked before, or leave it."""
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
    if run.slot_at is not None and runs_ahead(run.slot_at, now=now):
        # It stays queued: the walk of its entry takes it back, or its message comes again when its time has come.
        return ClaimDecision(action="skip", reason=f"its slot has not begun: {run.slot_at:%Y-%m-%d %H:%M:%S} UTC")
    if why := _why_not_begin(run, now=now, max_attempts=max_attempts):
        return why
    if run.state is State.RUNNING:
        return ClaimDecision(action="take", reason=f"the lease of {run.worker} has expired")
    return ClaimDecision(action="take", reason="the run is queued")


def decide_after_error(
    *, attempt: int, max_attempts: int, permanent: bool, cancel_requested: bool = False, busy: bool = False
) -> Move:
    """Decide what becomes of a run whose work raised an error.

    An error that no job has named counts as transient: most of what nobody thought of is the world in the
    way, and the limit of attempts bounds the rest. With `busy` another run uses what this one needs: the attempt
    does not count, so it is never the last one.
    """
    if permanent:
        return Move(to=State.FAILED, reason="trying again cannot help")
    if cancel_requested:
        return Move(to=State.CANCELLED, reason="it was called off, and is not tried again")
    if busy:
        return Move(to=State.QUEUED, reason="it waits for what another run uses")
    if attempt >= max_attempts:
        return Move(to=State.DEAD, reason=_exhausted(attempt, max_attempts))
    return Move(to=State.QUEUED, reason=f"attempt {attempt} of {max_attempts} failed")


def decide_requeue(run: Standing, *, now: datetime, default_max_attempts: int) -> Move | None:
    """Decide what becomes of a run whose worker may be gone; None leaves it alone."""
    if run.state is not State.RUNNING or not lease_expired(run, now=now):
        return None
    if run.cancel_requested_at is not None:
        return Move(to=State.CANCELLED, reason=f"{_called_off(run)}; {run.worker} fell silent")
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


def decide_cancel(run: Standing, *, now: datetime) -> CancelDecision:
    """Decide what comes of calling a run off.

    A worker with an expired lease has nothing left to lose: the run ends at once, and whatever the worker still
    records of it changes nothing.
    """
    if run.state in OUTCOMES:
        return CancelDecision(action="refuse", reason=f"the run has ended as {run.state}")
    if run.state is State.QUEUED:
        return CancelDecision(action="cancel", reason="nobody works on the run")
    if lease_expired(run, now=now):
        return CancelDecision(action="cancel", reason=f"{run.worker} fell silent")
    if run.cancel_requested_at is not None:
        return CancelDecision(action="wait", reason=f"{run.worker} was asked to stop before")
    return CancelDecision(action="request", reason=f"{run.worker} is asked to stop")


def decide_expiry(run: Standing, *, now: datetime) -> Move | None:
    """Decide whether a run waits for nothing, because it may not begin any more; None leaves it alone."""
    if run.state is not State.QUEUED or not is_too_late_to_start(run, now=now):
        return None
    return Move(to=State.MISSED, reason=_too_late(run))


def is_too_late_to_start(run: Standing, *, now: datetime) -> bool:
    """Say whether a run that never began may not do so any more; what began once may be tried again at any time."""
    return run.first_started_at is None and run.start_before is not None and now > run.start_before


def lease_expired(run: Standing, *, now: datetime) -> bool:
    """Say whether a running run may be taken from its worker."""
    return run.lease_until is None or run.lease_until <= now


def _exhausted(attempt: int, max_attempts: int) -> str:
    return f"{attempt} of {max_attempts} attempts are used up"


def _why_not_begin(run: Standing, *, now: datetime, max_attempts: int) -> ClaimDecision | None:
    if run.cancel_requested_at is not None:
        return ClaimDecision(action="cancel", reason=_called_off(run))
    if is_too_late_to_start(run, now=now):
        return ClaimDecision(action="miss", reason=_too_late(run))
    if run.attempt >= max_attempts:
        return ClaimDecision(action="bury", reason=_exhausted(run.attempt, max_attempts))
    return None


def _called_off(run: Standing) -> str:
    return run.cancel_reason or "it was called off"


def _too_late(run: Standing) -> str:
    return f"nobody began it before {run.start_before:%Y-%m-%d %H:%M:%S} UTC"
