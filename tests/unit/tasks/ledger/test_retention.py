"""What may be forgotten, and what may not come back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.messages import ReconcileLedger
from tasks.ledger.retention import MAINTENANCE_KINDS, retention_rules, why_too_old
from tasks.ledger.states import OUTCOMES, State
from tasks.runtime import LedgerOptions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPTIONS = LedgerOptions()
DURATIONS = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=400))


@pytest.mark.parametrize("is_maintenance", [False, True])
@pytest.mark.parametrize("state", State)
def test_each_outcome_falls_under_one_rule(state: State, is_maintenance: bool) -> None:  # noqa: FBT001  a parameter
    """Whatever has ended is forgotten some day, and what has not is never."""
    rules = [rule for rule in retention_rules(OPTIONS, now=NOW) if rule.is_maintenance is is_maintenance]
    assert sum(state in rule.states for rule in rules) == (1 if state in OUTCOMES else 0)


def test_what_went_wrong_is_kept_longest() -> None:
    """A failure is what somebody comes back for; upkeep that went well is of no interest."""
    kept = {
        (rule.is_maintenance, state): NOW - rule.before
        for rule in retention_rules(OPTIONS, now=NOW)
        for state in rule.states
    }
    assert kept[False, State.SUCCEEDED] == kept[False, State.CANCELLED] == timedelta(days=30)
    assert {kept[False, state] for state in (State.FAILED, State.DEAD, State.MISSED)} == {timedelta(days=180)}
    assert kept[True, State.SUCCEEDED] == kept[True, State.MISSED] == timedelta(days=1)
    assert kept[True, State.DEAD] == timedelta(days=180)


@given(
    keep=st.tuples(DURATIONS, DURATIONS, DURATIONS),
    kind=st.sampled_from(["app.report", *MAINTENANCE_KINDS]),
    age=st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=500)),
)
def test_nothing_that_may_be_forgotten_may_come_back(
    keep: tuple[timedelta, timedelta, timedelta], kind: str, age: timedelta
) -> None:
    """Whatever any rule may have deleted is refused, and what none can have deleted is taken."""
    options = replace(OPTIONS, keep_runs=keep[0], keep_failed=keep[1], keep_maintenance=keep[2])
    rules = [rule for rule in retention_rules(options, now=NOW) if rule.is_maintenance is (kind in MAINTENANCE_KINDS)]
    may_be_gone = any(NOW - age < rule.before for rule in rules)
    assert (why_too_old(kind, NOW - age, options, now=NOW) is not None) is may_be_gone


def test_reason_says_what_to_think_of_it() -> None:
    """The operator reads when it was asked for, and why that matters."""
    reason = why_too_old(ReconcileLedger.kind, NOW - timedelta(days=2), OPTIONS, now=NOW)
    assert reason == "too old: its run, asked for at 2026-02-27T12:00:00+00:00, may have been forgotten"
