"""What a walk decides about each slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.messages import RunCanary
from schedules.entries import Entry
from tasks.ledger.catching_up import CLOCK_TOLERANCE, Pause, first_sight, plan_slots, pulled_back, runs_ahead

if TYPE_CHECKING:
    from tasks.ledger.catching_up import SlotPlan

CatchUp = Literal["none", "last", "all"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRACE = timedelta(minutes=90)


def hourly(catch_up: CatchUp = "last", *, grace: timedelta = GRACE, cron: str = "0 * * * *") -> Entry:
    return Entry(
        name="hourly", cron=cron, message=RunCanary(), catch_up=catch_up, grace=grace, max_duration=timedelta(minutes=5)
    )


def plans(
    entry: Entry,
    *,
    hours: float,
    now: datetime = NOON,
    taken: tuple[datetime, ...] = (),
    pause: Pause | None = None,
) -> list[SlotPlan]:
    return list(plan_slots(entry, after=now - timedelta(hours=hours), now=now, taken=taken, pause=pause))


def paused(since: datetime, until: datetime) -> Pause:
    return Pause(since=since, until=until, reason="moving house", by="ada")


@pytest.mark.parametrize(
    ("catch_up", "grace", "expected"),
    [
        ("none", GRACE, ["miss", "miss", "miss", "fire"]),
        ("none", timedelta(minutes=1), ["miss", "miss", "miss", "miss"]),
        ("last", timedelta(minutes=1), ["miss", "miss", "miss", "fire"]),
        ("all", timedelta(minutes=1), ["fire", "fire", "fire", "fire"]),
    ],
)
def test_an_outage_of_four_slots(catch_up: CatchUp, grace: timedelta, expected: list[str]) -> None:
    """The rule of the entry says which of the slots left out still run."""
    found = plans(hourly(catch_up, grace=grace), hours=3.9, now=NOON + timedelta(minutes=5))
    assert [plan.slot for plan in found] == [NOON - 3 * HOUR, NOON - 2 * HOUR, NOON - HOUR, NOON]
    assert [plan.action for plan in found] == expected


def test_late_is_later_than_the_grace() -> None:
    """A slot is late one moment after its grace, and not at its end."""
    end = NOON + GRACE
    for catch_up, after_grace in (("none", "miss"), ("last", "fire"), ("all", "fire")):
        entry = hourly(catch_up, cron="0 12 * * *")  # type: ignore[arg-type]
        [in_time] = plans(entry, hours=2, now=end)
        [late] = plans(entry, hours=2, now=end + timedelta(microseconds=1))
        assert (in_time.action, in_time.is_late) == ("fire", False)
        assert (late.action, late.is_late) == (after_grace, True)


def test_every_reason_says_why() -> None:
    """What is not run says what took its place, or what it waited for in vain."""
    old, older = plans(hourly("last"), hours=1.5)[0], plans(hourly("none"), hours=3.5)[0]
    assert old.reason == "superseded by the slot of 2026-03-01T12:00Z"
    assert older.reason == "nobody fired it within its grace of 1:30:00"


def test_a_slot_with_a_run_is_left_alone() -> None:
    """Whatever the rule: one run per slot."""
    for catch_up in ("none", "last", "all"):
        found = plans(hourly(catch_up), hours=1.5, taken=(NOON, NOON - HOUR))
        assert [plan.action for plan in found] == ["leave", "leave"]


def test_an_older_slot_does_not_run_after_a_newer_one() -> None:
    """A slot that turns up without a run, while a newer one has its run, is superseded."""
    found = plans(hourly("last"), hours=1.5, taken=(NOON,))
    assert [plan.action for plan in found] == ["miss", "leave"]


def test_a_pause_calls_its_slots_off() -> None:
    """Slots of a pause are called off with its words, also when the pause is over by the time they are walked."""
    pause = paused(NOON - 2 * HOUR, NOON - timedelta(minutes=30))
    for catch_up, before in (("none", "miss"), ("last", "miss"), ("all", "fire")):
        found = plans(hourly(catch_up), hours=3.5, pause=pause)  # type: ignore[arg-type]
        assert [plan.action for plan in found] == [before, "call_off", "call_off", "fire"]
        assert found[1].reason == "paused by ada until 2026-03-01T11:30Z: moving house"


def test_nothing_starts_while_a_pause_lasts() -> None:
    """What would be caught up from before the pause is called off as well; what was missed stays missed."""
    pause = paused(NOON - timedelta(minutes=30), NOON + HOUR)
    for catch_up, actions in (
        ("none", ["miss", "call_off", "call_off"]),
        ("last", ["miss", "call_off", "call_off"]),
        ("all", ["call_off"] * 3),
    ):
        found = plans(hourly(catch_up), hours=2.5, pause=pause)  # type: ignore[arg-type]
        assert [plan.action for plan in found] == actions


def test_a_pause_hides_no_slot_from_before() -> None:
    """The newest slot that was due before a pause is caught up after it."""
    found = plans(hourly("last"), hours=3.5, pause=paused(NOON - 1.5 * HOUR, NOON - timedelta(microseconds=1)))
    assert [plan.action for plan in found] == ["miss", "miss", "call_off", "fire"]
    found = plans(hourly("last"), hours=3.5, now=NOON + timedelta(minutes=5), pause=paused(NOON - 1.5 * HOUR, NOON))
    assert [plan.action for plan in found] == ["miss", "fire", "call_off", "call_off"]


def test_a_year_of_minutes_takes_no_memory() -> None:
    """Plans are made one by one: the first of a year's is there at once."""
    coming = plan_slots(
        hourly("all", cron="* * * * *"), after=NOON - timedelta(days=365), now=NOON, taken=(), pause=None
    )
    assert [plan.action for plan in islice(coming, 3)] == ["fire"] * 3


@given(
    catch_up=st.sampled_from(["none", "last", "all"]),
    back=st.timedeltas(timedelta(), timedelta(days=3)),
    grace=st.timedeltas(timedelta(seconds=1), timedelta(days=1)),
    pauses=st.none() | st.tuples(st.timedeltas(timedelta(), timedelta(days=2)), st.timedeltas(timedelta(), 2 * HOUR)),
)
def test_every_slot_has_one_plan(
    catch_up: CatchUp, back: timedelta, grace: timedelta, pauses: tuple[timedelta, timedelta] | None
) -> None:
    """Each slot of the time walked is decided once and in order, and only `all` fires more than one."""
    entry = hourly(catch_up, grace=grace)
    pause = None if pauses is None else paused(NOON - pauses[0], NOON - pauses[0] + pauses[1])
    found = list(plan_slots(entry, after=NOON - back, now=NOON, taken=(), pause=pause))
    assert [plan.slot for plan in found] == list(entry.slots_between(NOON - back, NOON))
    fired = [plan for plan in found if plan.action == "fire"]
    assert catch_up == "all" or len(fired) <= 1
    assert not any(plan.is_late for plan in fired if catch_up == "none")
    assert all(pause is None or not pause.covers(plan.slot) for plan in fired)


def test_the_past_of_a_new_entry_is_nobodys_fault() -> None:
    """An entry begins when it is first seen; the slot that is announced right then counts, unless it is long over."""
    entry = hourly()
    assert first_sight(entry, now=NOON, fires=False) == NOON
    assert first_sight(entry, now=NOON + HOUR / 2, fires=True) < NOON
    nightly = hourly(cron="30 2 * * *")
    assert first_sight(nightly, now=NOON, fires=True) == NOON


def test_a_clock_that_ran_ahead_is_followed_back() -> None:
    """An entry that was walked in the future is walked again from its first slot that was written there."""
    assert not runs_ahead(NOON + CLOCK_TOLERANCE, now=NOON)
    ahead = NOON + timedelta(days=365)
    assert pulled_back(NOON, now=NOON, earliest_before_its_time=None) == NOON
    assert pulled_back(ahead, now=NOON, earliest_before_its_time=None) <= NOON
    first = NOON - timedelta(minutes=3)
    assert pulled_back(ahead, now=NOON, earliest_before_its_time=first) < first
    assert pulled_back(ahead, now=NOON, earliest_before_its_time=NOON + HOUR) == NOON
