"""The whole timetable, and one of each kind of entry, walked through a year with everything that clocks and crews do.

What is expected is worked out from the calendar, slot by slot, without the arithmetic under test.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from freezegun import api as freezegun_api
from freezegun import freeze_time

from nightcrew.messages import RunCanary
from schedules.entries import CatchUp, Entry
from schedules.timetable import ENTRIES
from tasks.ledger.catching_up import CLOCK_TOLERANCE, plan_slots, pulled_back, runs_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    Calendar: TypeAlias = Callable[[datetime, datetime], list[datetime]]

BEGIN = datetime(2028, 1, 1, tzinfo=UTC)
"""A leap year."""
END = datetime(2029, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

OUTAGES = (
    (datetime(2028, 2, 10, 2, tzinfo=UTC), HOUR),  # the nightly slot falls into it
    (datetime(2028, 2, 28, 23, 30, tzinfo=UTC), DAY),  # the leap day falls into it, but for its last half hour
    (datetime(2028, 6, 10, 12, tzinfo=UTC), 30 * DAY),
)
CLOCK_CHANGES = (datetime(2028, 3, 26, tzinfo=UTC), datetime(2028, 10, 29, tzinfo=UTC))
"""The days on which Europe/Berlin leaves an hour out and has one twice."""


def frozen(instant: datetime) -> Any:
    """Stop the clock; cronsim keeps its plain datetimes, because arithmetic on freezegun's takes five times as long."""
    return freeze_time(instant, ignore=["cronsim"])


def utc_now() -> datetime:
    """Read the stopped clock, as a plain datetime."""
    return freezegun_api.real_datetime.fromtimestamp(time.time(), UTC)


YEAR = ((BEGIN, END),)
EVENTFUL = tuple(
    (begin - HOUR, begin + length + HOUR) for begin, length in (*OUTAGES, *((day, DAY) for day in CLOCK_CHANGES))
)
"""Of an entry that is due every few minutes, the times in which something happens: its whole year takes 15 seconds."""


class Row(NamedTuple):
    """What a paper ledger says of a slot."""

    action: str
    is_late: bool
    written_at: datetime


@dataclass
class PaperLedger:
    """The ledger's part in a walk, on paper: one row per slot and entry."""

    entry: Entry
    walked_until: datetime
    rows: dict[datetime, Row] = field(default_factory=dict)

    def walk(self) -> None:
        now = utc_now()
        if runs_ahead(self.walked_until, now=now):
            early = [slot for slot, row in self.rows.items() if row.written_at > now + CLOCK_TOLERANCE]
            for slot in early:
                del self.rows[slot]
            earliest = min(early, default=None)
            self.walked_until = pulled_back(self.walked_until, now=now, earliest_before_its_time=earliest)
        for plan in plan_slots(self.entry, after=self.walked_until, now=now, taken=self.rows, pause=None):
            assert plan.slot not in self.rows or plan.action == "leave"
            if plan.action != "leave":
                self.rows[plan.slot] = Row(plan.action, plan.is_late, now)
        self.walked_until = max(self.walked_until, now)

    def told(self) -> dict[datetime, tuple[str, bool]]:
        return {slot: (row.action, row.is_late) for slot, row in self.rows.items()}


def _each(step: timedelta) -> Calendar:
    def between(begin: datetime, end: datetime) -> list[datetime]:
        skipped = -((BEGIN - begin) // step)
        first = BEGIN + skipped * step
        return [first + number * step for number in range((end - first) // step + 1)]

    return between


def _days(wanted: Callable[[datetime], bool], hour: int, minute: int) -> Calendar:
    def between(begin: datetime, end: datetime) -> list[datetime]:
        slots = [day + hour * HOUR + minute * MINUTE for day in _each(DAY)(BEGIN, END) if wanted(day)]
        return [slot for slot in slots if begin <= slot <= end]

    return between


def _entry(name: str, cron: str, catch_up: CatchUp, grace: timedelta) -> Entry:
    return Entry(name=name, cron=cron, message=RunCanary(), catch_up=catch_up, grace=grace, max_duration=HOUR)


# Entries of one arithmetic are walked once, under the name of the first.
_BY_RULE = {(entry.cron, entry.catch_up, entry.grace): entry for entry in reversed(ENTRIES)}
CALENDAR: list[tuple[Entry, Calendar]] = [
    *((entry, _each(MINUTE if entry.cron == "* * * * *" else 10 * MINUTE)) for entry in _BY_RULE.values()),
    (_entry("nightly", "30 2 * * *", "last", HOUR), _days(lambda _: True, 2, 30)),
    (_entry("nightly-or-never", "30 2 * * *", "none", 10 * MINUTE), _days(lambda _: True, 2, 30)),
    (_entry("nightly-each", "30 2 * * *", "all", HOUR), _days(lambda _: True, 2, 30)),
    (_entry("weekly", "15 4 * * 0", "last", HOUR), _days(lambda day: day.isoweekday() == 7, 4, 15)),
    (_entry("monthly", "0 5 1 * *", "last", HOUR), _days(lambda day: day.day == 1, 5, 0)),
    (_entry("often", "*/5 * * * *", "none", 2 * MINUTE), _each(5 * MINUTE)),
    (_entry("leap-day", "0 6 29 2 *", "last", HOUR), _days(lambda day: (day.month, day.day) == (2, 29), 6, 0)),
]


@pytest.fixture(params=["UTC", "Europe/Berlin"])
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run on a machine in this time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def is_down(instant: datetime) -> bool:
    return any(begin <= instant < begin + length for begin, length in OUTAGES)


def wakings(slots: Sequence[datetime], until: datetime) -> list[datetime]:
    """Give the instants at which an entry is walked: beat a little after a slot, the reconciler after an outage."""
    beats = [slot + timedelta(seconds=3) for slot in slots]
    after_outages = [begin + length for begin, length in OUTAGES if slots[0] < begin < until]
    return sorted({instant for instant in [*beats, *after_outages, until] if not is_down(instant)})


def expected(entry: Entry, slots: Sequence[datetime], walks: Sequence[datetime]) -> dict[datetime, tuple[str, bool]]:
    """Say what becomes of each slot, from the rule in the entry and the first walk after the slot."""
    outcomes = {}
    for number, slot in enumerate(slots):
        if (position := bisect_left(walks, slot)) == len(walks):
            continue
        walk = walks[position]
        is_late = walk - slot > entry.grace
        is_newest = number + 1 == len(slots) or slots[number + 1] > walk
        fires = {"none": is_newest and not is_late, "last": is_newest, "all": True}[entry.catch_up]
        outcomes[slot] = ("fire" if fires else "miss", is_late)
    return outcomes


def walk_through(entry: Entry, begin: datetime, walks: Iterable[datetime]) -> PaperLedger:
    ledger = PaperLedger(entry=entry, walked_until=begin - timedelta(microseconds=1))
    with frozen(begin) as clock:
        for instant in walks:
            clock.move_to(instant)
            ledger.walk()
    return ledger


@pytest.mark.parametrize(("entry", "calendar"), CALENDAR, ids=lambda value: getattr(value, "name", ""))
def test_every_slot_of_a_year_has_its_outcome(entry: Entry, calendar: Calendar) -> None:
    """Outages of an hour, a day and a month; each slot of the calendar stands in the ledger once, as its rule says."""
    for begin, end in EVENTFUL if entry.cron.startswith("*") else YEAR:
        slots = calendar(begin, end)
        walks = wakings(slots, end)
        assert walk_through(entry, begin, walks).told() == expected(entry, slots, walks)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # 366 nights: the hour holds one, half an hour late at most; the day one; the month thirty, lost but the last.
        ("nightly", {("fire", False): 335, ("fire", True): 2, ("miss", True): 29}),
        ("nightly-or-never", {("fire", False): 334, ("miss", True): 32}),
        ("nightly-each", {("fire", False): 335, ("fire", True): 31}),
        # 53 Sundays, of which five are in the month of the outage.
        ("weekly", {("fire", False): 48, ("fire", True): 1, ("miss", True): 4}),
        ("monthly", {("fire", False): 11, ("fire", True): 1}),
        ("leap-day", {("fire", True): 1}),
    ],
)
def test_the_outages_cost_what_they_must(name: str, counts: dict[tuple[str, bool], int]) -> None:
    """The counts of the year, worked out by hand."""
    [(entry, calendar)] = [pair for pair in CALENDAR if pair[0].name == name]
    found = walk_through(entry, BEGIN, wakings(calendar(BEGIN, END), END)).told().values()
    assert dict(Counter(found)) == counts


@pytest.mark.parametrize("day", CLOCK_CHANGES, ids=["an hour is left out", "an hour comes twice"])
@pytest.mark.parametrize("pair", CALENDAR, ids=lambda pair: pair[0].name)
def test_clocks_that_change_change_nothing(pair: tuple[Entry, Calendar], day: datetime, host_zone: str) -> None:
    """On a host in Berlin as on one in UTC, each slot of both days fires once, in time."""
    entry, calendar = pair
    slots = calendar(day, day + DAY - MINUTE)
    step = MINUTE if entry.cron.startswith("*") else 10 * MINUTE
    ledger = PaperLedger(entry=entry, walked_until=day - timedelta(microseconds=1))
    with frozen(day) as clock:
        assert datetime.now().astimezone().tzname() == {"UTC": "UTC", "Europe/Berlin": _berlin(day)}[host_zone]
        while utc_now() < day + DAY:
            ledger.walk()
            clock.tick(step)
    assert ledger.told() == dict.fromkeys(slots, ("fire", False))


@pytest.mark.parametrize("back", [HOUR, DAY], ids=["an hour", "a day"])
@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_clock_that_goes_back_lives_its_slots_again(back: timedelta, catch_up: CatchUp) -> None:
    """Set back, the clock was ahead: what it wrote before its time is written again in time, each slot once."""
    noon = datetime(2028, 5, 1, 12, tzinfo=UTC)
    ledger = PaperLedger(entry=_entry("often", "*/5 * * * *", catch_up, 2 * MINUTE), walked_until=noon)
    with frozen(noon) as clock:
        for _ in range(2 * (back // MINUTE)):
            clock.tick(MINUTE)
            ledger.walk()
        top = utc_now()
        clock.move_to(top - back)
        ledger.walk()
        assert max(ledger.rows) <= utc_now() + CLOCK_TOLERANCE
        while utc_now() < top:
            clock.tick(MINUTE)
            ledger.walk()
    assert ledger.told() == dict.fromkeys(_between(noon, top), ("fire", False))
    assert all(row.written_at - slot < MINUTE + CLOCK_TOLERANCE for slot, row in ledger.rows.items())


@pytest.mark.parametrize(
    "entry", [pair[0] for pair in CALENDAR if not pair[0].cron.startswith("*")], ids=lambda e: e.name
)
def test_a_clock_that_ran_a_year_ahead_for_a_moment_costs_nothing(entry: Entry) -> None:
    """The next two months fire as if nothing had been."""
    noon = datetime(2028, 1, 20, 12, tzinfo=UTC)
    ledger = PaperLedger(entry=entry, walked_until=noon)
    with frozen(noon) as clock:
        clock.move_to(noon + 366 * DAY)
        ledger.walk()
        clock.move_to(noon + timedelta(seconds=10))
        ledger.walk()
        assert not ledger.rows
        slots = list(entry.slots_between(noon, noon + 60 * DAY))
        for slot in slots:
            clock.move_to(slot + timedelta(seconds=1))
            ledger.walk()
    assert ledger.told() == dict.fromkeys(slots, ("fire", False))


def _between(after: datetime, until: datetime) -> list[datetime]:
    return [slot for slot in _each(5 * MINUTE)(after, until) if slot > after]


def _berlin(day: datetime) -> str:
    return "CET" if day.month == 3 else "CEST"  # at midnight UTC, before the change
