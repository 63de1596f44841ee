"""The proof of the demo, which must be able to fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workers.demo.events import Event
from workers.demo.proof import Place, Run, Uses, expect, prove

AT = datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
A, B = Place("UA1/ORD", "EWR|Tue|05"), Place("B62/BOS", "JFK|Tue|06")


def event(place: Place, *, accepted: bool) -> Event:
    entity, value = place.key.split("/")
    known_at = AT + timedelta(hours=6)
    return Event(at=AT, known_at=known_at, entity=entity, context=place.context, value=value, accepted=accepted)


EXPECTED = expect([event(A, accepted=True), event(A, accepted=False), event(B, accepted=True)], rounds=2)

RIGHT = Run(
    expected=EXPECTED,
    before={A: Uses(10, 5, 0)},
    after={A: Uses(14, 7, 2), B: Uses(2, 2, 0)},
    history_agrees=True,
    seconds=2.0,
    killed_pid=1,
    successor_pid=2,
    doorbells_lost=1,
)


def test_events_are_counted_the_obvious_way() -> None:
    """Each round adds each event once, by its outcome."""
    assert {A: Uses(4, 2, 2), B: Uses(2, 2, 0)} == EXPECTED


def test_right_counts_are_proven() -> None:
    """Every line holds when the database grew by exactly what was sent."""
    lines = prove(RIGHT)
    assert all(line.holds for line in lines)
    assert {line.claim: line.measured for line in lines}["increments per second"] == "3"


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        pytest.param({"after": {A: Uses(14, 7, 2), B: Uses(1, 1, 0)}}, "difference", id="one lost"),
        pytest.param({"after": {A: Uses(14, 7, 2), B: Uses(3, 3, 0)}}, "difference", id="one doubled"),
        pytest.param({"after": {A: Uses(13, 7, 1), B: Uses(3, 3, 0)}}, "single counts that differ", id="one misplaced"),
        pytest.param({"after": {A: Uses(14, 8, 1), B: Uses(2, 2, 0)}}, "single counts that differ", id="one outcome"),
        pytest.param({"history_agrees": False}, "hourly history sums to the counts", id="history"),
        pytest.param({"successor_pid": 1}, "worker killed with kill -9, started again", id="nobody killed"),
        pytest.param({"doorbells_lost": 0}, "doorbells lost / recovered", id="no bell lost"),
        pytest.param({"left_behind": 1}, "processes left behind", id="leftover"),
        pytest.param({"expected": {}, "after": {A: Uses(10, 5, 0)}}, "events sent", id="no events"),
    ],
)
def test_proof_fails_with_what_it_claims(wrong: dict[str, object], claim: str) -> None:
    """Each thing that can go wrong breaks the line that speaks of it."""
    lines = prove(replace(RIGHT, **wrong))  # type: ignore[arg-type]
    assert claim in {line.claim for line in lines if not line.holds}
