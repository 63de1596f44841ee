"""The state machine of a run, checked for all standings and for random lives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.ledger.states import (
    OUTCOMES,
    RETRYABLE,
    TRANSITIONS,
    State,
    decide_after_error,
    decide_cancel,
    decide_claim,
    decide_expiry,
    decide_republish,
    decide_requeue,
    decide_retry,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    state: State = State.QUEUED
    attempt: int = 0
    max_attempts: int | None = 4
    fence: int = 0
    worker: str | None = "usage@host"
    lease_until: datetime | None = None
    published_at: datetime | None = None
    first_started_at: datetime | None = None
    slot_at: datetime | None = None
    start_before: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None


instants = st.timedeltas(min_value=-MINUTE, max_value=MINUTE).map(lambda distance: NOW + distance)
standings = st.builds(
    Seen,
    state=st.sampled_from(State),
    attempt=st.integers(0, 6),
    max_attempts=st.none() | st.integers(1, 5),
    lease_until=st.none() | instants,
    published_at=st.none() | instants,
    first_started_at=st.none() | instants,
    slot_at=st.none() | instants,
    start_before=st.none() | instants,
    cancel_requested_at=st.none() | instants,
    cancel_reason=st.none() | st.just("not needed (by ada)"),
)


@given(standings, st.integers(1, 5))
def test_claim_follows_the_ways(run: Seen, limit: int) -> None:
    """A claim leads only where a way leads, and never begins an attempt over the limit."""
    decision = decide_claim(run, now=NOW, max_attempts=limit)
    assert decision.reason
    if decision.action == "take":
        assert State.RUNNING in TRANSITIONS[run.state]
        assert run.attempt < limit
        assert run.cancel_requested_at is None
        assert run.first_started_at or not run.start_before or run.start_before >= NOW
    elif decision.action == "bury":
        assert State.DEAD in TRANSITIONS[run.state]
        assert run.attempt >= limit
    elif decision.action != "skip":
        assert run.state not in OUTCOMES
        assert {"miss": run.start_before, "cancel": run.cancel_requested_at}[decision.action]


@given(standings)
def test_held_run_is_not_taken(run: Seen) -> None:
    """As long as a lease is valid, nobody else gets the run."""
    held = replace(run, state=State.RUNNING, lease_until=NOW + timedelta(microseconds=1))
    assert decide_claim(held, now=NOW, max_attempts=99).action == "skip"
    assert decide_requeue(held, now=NOW, default_max_attempts=99) is None


@given(standings)
def test_outcome_is_final(run: Seen) -> None:
    """An ended run is neither claimed nor requeued."""
    ended = replace(run, state=State.SUCCEEDED)
    for state in OUTCOMES:
        assert decide_claim(replace(ended, state=state), now=NOW, max_attempts=99).action == "skip"
        assert decide_requeue(replace(ended, state=state), now=NOW, default_max_attempts=99) is None


@given(standings)
def test_only_silent_workers_lose_runs(run: Seen) -> None:
    """A requeue concerns running runs with an expired lease, and ends those without attempts left."""
    move = decide_requeue(run, now=NOW, default_max_attempts=4)
    expired = run.state is State.RUNNING and (run.lease_until is None or run.lease_until <= NOW)
    assert (move is not None) == expired
    if move is not None:
        no_more = State.DEAD if run.attempt >= (run.max_attempts or 4) else State.QUEUED
        assert move.to is (no_more if run.cancel_requested_at is None else State.CANCELLED)
        assert move.to in TRANSITIONS[run.state]


@given(standings)
def test_operator_retries_only_what_went_wrong(run: Seen) -> None:
    """Whatever ended without a success may be retried; all others are refused with a reason."""
    verdict = decide_retry(run)
    assert verdict.yes == (run.state in RETRYABLE)
    assert verdict.reason
    assert not verdict.yes or State.QUEUED in TRANSITIONS[run.state]


@pytest.mark.parametrize(
    ("attempt", "permanent", "expected"),
    [(1, False, State.QUEUED), (3, False, State.QUEUED), (4, False, State.DEAD), (1, True, State.FAILED)],
)
def test_error_is_tried_again_up_to_the_limit(attempt: int, permanent: bool, expected: State) -> None:  # noqa: FBT001
    """A permanent error fails at once, any other one is retried until the attempts are used up."""
    assert decide_after_error(attempt=attempt, max_attempts=4, permanent=permanent).to is expected


@given(
    attempt=st.integers(1, 6),
    limit=st.integers(1, 5),
    permanent=st.booleans(),
    cancelled=st.booleans(),
    busy=st.booleans(),
)
def test_error_of_a_cancelled_run_is_the_last(
    *, attempt: int, limit: int, permanent: bool, cancelled: bool, busy: bool
) -> None:
    """After a request to stop nothing is tried again, and what waits for others is never dead by it."""
    move = decide_after_error(
        attempt=attempt, max_attempts=limit, permanent=permanent, cancel_requested=cancelled, busy=busy
    )
    assert move.to in TRANSITIONS[State.RUNNING]
    assert (move.to is State.FAILED) == permanent
    assert not (cancelled and move.to in {State.QUEUED, State.DEAD})
    assert not (busy and move.to is State.DEAD)


@given(standings)
def test_cancel_takes_nothing_from_a_worker(run: Seen) -> None:
    """An ended run stays, one that a worker holds is asked for once, and any other ends at once."""
    decision = decide_cancel(run, now=NOW)
    holds = run.state is State.RUNNING and run.lease_until is not None and run.lease_until > NOW
    assert decision.reason
    assert (decision.action == "refuse") == (run.state in OUTCOMES)
    assert (decision.action in {"request", "wait"}) == holds
    assert decision.action != "request" or run.cancel_requested_at is None
    assert decision.action != "cancel" or State.CANCELLED in TRANSITIONS[run.state]


@given(standings)
def test_only_what_never_began_can_be_missed(run: Seen) -> None:
    """A run is missed while it is queued, after the last moment to begin, and never after a first attempt."""
    move = decide_expiry(run, now=NOW)
    assert (move is not None) == (
        run.state is State.QUEUED
        and run.first_started_at is None
        and run.start_before is not None
        and run.start_before < NOW
    )
    assert move is None or move.to is State.MISSED


def test_waiting_message_is_not_doubled() -> None:
    """While a queue's oldest message is older than a run's own, that one may still wait behind it."""
    run = Seen(published_at=NOW)
    assert not decide_republish(run, oldest_waiting_at=NOW - MINUTE).yes
    assert decide_republish(run, oldest_waiting_at=NOW + MINUTE).yes
    assert decide_republish(run, oldest_waiting_at=None).yes
    assert decide_republish(replace(run, published_at=None), oldest_waiting_at=NOW - MINUTE).yes


class LifeOfARun(RuleBasedStateMachine):
    """Random interleavings of workers, crashes, reconcilers and operators on one run."""

    def __init__(self) -> None:
        super().__init__()
        self.run = Seen()
        self.now = NOW
        self.workers: set[int] = set()
        self.outcomes_since_restart = 0

    def change(self, to: State, **values: object) -> None:
        assert to in TRANSITIONS[self.run.state]
        self.run = replace(self.run, state=to, **values)  # type: ignore[arg-type]
        self.outcomes_since_restart += to in OUTCOMES

    @rule()
    def deliver(self) -> None:
        decision = decide_claim(self.run, now=self.now, max_attempts=3)
        if decision.action == "take":
            fence = self.run.fence + 1
            lease_until = self.now + MINUTE
            self.change(
                State.RUNNING, attempt=self.run.attempt + 1, fence=fence, lease_until=lease_until, max_attempts=3
            )
            self.workers.add(fence)
        elif decision.action != "skip":
            self.change({"bury": State.DEAD, "miss": State.MISSED, "cancel": State.CANCELLED}[decision.action])

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.workers)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from(["succeed", "raise", "refuse", "crash"]))
    def finish(self, choice: object, how: str) -> None:
        fence = choice.choice(sorted(self.workers))  # type: ignore[attr-defined]
        self.workers.remove(fence)
        if how == "crash" or self.run.state is not State.RUNNING or self.run.fence != fence:
            return
        if how == "succeed":
            self.change(State.SUCCEEDED)
        else:
            called_off = self.run.cancel_requested_at is not None
            move = decide_after_error(
                attempt=self.run.attempt, max_attempts=3, permanent=how == "refuse", cancel_requested=called_off
            )
            self.change(move.to)

    @rule()
    def reconcile(self) -> None:
        move = decide_requeue(self.run, now=self.now, default_max_attempts=4)
        if move is not None:
            self.change(move.to)

    @rule()
    def call_off(self) -> None:
        action = decide_cancel(self.run, now=self.now).action
        if action == "cancel":
            self.change(State.CANCELLED)
        elif action == "request":
            self.change(State.RUNNING, cancel_requested_at=self.now)

    @rule()
    def retry(self) -> None:
        if decide_retry(self.run).yes:
            self.change(State.QUEUED, attempt=0, cancel_requested_at=None)
            self.outcomes_since_restart = 0

    @invariant()
    def holds(self) -> None:
        assert self.run.attempt <= 3
        assert self.outcomes_since_restart <= 1
        assert (self.run.state in OUTCOMES) == bool(self.outcomes_since_restart)
        assert self.run.state is not State.QUEUED or self.run.cancel_requested_at is None


TestLifeOfARun = LifeOfARun.TestCase


def test_a_slot_that_has_not_begun_is_not_worked_on() -> None:
    """A message that a clock which ran ahead has sent is passed over with a reason; small differences do not matter."""
    ahead = decide_claim(Seen(slot_at=NOW + 2 * MINUTE), now=NOW, max_attempts=3)
    assert ahead.action == "skip"
    assert "has not begun" in ahead.reason
    assert decide_claim(Seen(slot_at=NOW + MINUTE), now=NOW, max_attempts=3).action == "take"
