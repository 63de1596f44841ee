"""A slot is the same instant for everyone who asks, whatever the clocks do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab
from freezegun import freeze_time
from hypothesis import example, given
from hypothesis import strategies as st

from schedules import slots

_BERLIN = ZoneInfo("Europe/Berlin")
_NIGHTLY = "30 2 * * *"
_UTC_APP = Celery(set_as_current=False)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

_INSTANTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone


@st.composite
def _fields(draw: st.DrawFn, smallest: int, largest: int) -> str:
    def one() -> str:
        low = draw(st.integers(smallest, largest - 1))
        high = draw(st.integers(low + 1, largest))
        step = draw(st.integers(1, largest))
        return draw(st.sampled_from([str(low), f"{low}-{high}", f"{low}-{high}/{step}", "*", f"*/{step}"]))

    return ",".join(one() for _ in range(draw(st.integers(1, 3))))


@st.composite
def _expressions(draw: st.DrawFn) -> str:
    minute, hour, month = draw(_fields(0, 59)), draw(_fields(0, 23)), draw(_fields(1, 12))
    by_date = draw(st.booleans())
    day = draw(_fields(1, 28)) if by_date else "*"
    weekday = "*" if by_date else draw(_fields(0, 6))
    return f"{minute} {hour} {day} {month} {weekday}"


@given(cron=_expressions(), instant=_INSTANTS)
@example(cron="0 0 29 2 *", instant=datetime(2023, 3, 1, tzinfo=UTC))
@example(cron="0 0 31 * *", instant=datetime(2024, 5, 30, 23, 59, 59, 999_999, tzinfo=UTC))
@example(cron="59 23 31 12 *", instant=datetime(2024, 12, 31, 23, 59, tzinfo=UTC))
@example(cron="*/7 */5 */10 * *", instant=datetime(2024, 2, 29, tzinfo=UTC))
@example(cron="0 12 * * */2", instant=datetime(2024, 2, 29, tzinfo=UTC))
def test_looking_back_and_ahead_agree(cron: str, instant: datetime) -> None:
    """The newest slot is never in the future, the next never in the past, and nothing lies between them."""
    slots.check(cron)
    newest, next_ = slots.newest(cron, instant), next(slots.following(cron, instant))
    assert newest <= instant < next_
    assert next(slots.following(cron, newest)) == next_
    assert slots.newest(cron, next_) == next_
    assert slots.newest(cron, next_ - timedelta(microseconds=1)) == newest
    assert list(slots.between(cron, newest, next_)) == [next_]


@given(cron=_expressions(), instant=_INSTANTS)
@example(cron="0 0 29 2 *", instant=datetime(2023, 3, 1, tzinfo=UTC))
@example(cron="0 0 * * 0", instant=datetime(2023, 3, 1, tzinfo=UTC))
@example(cron="0 0 * * */6", instant=datetime(2023, 3, 1, tzinfo=UTC))
@example(cron="0 0 */2 * 1", instant=datetime(2023, 3, 1, tzinfo=UTC))
def test_celery_means_the_same(cron: str, instant: datetime) -> None:
    """The next slot is the one that Celery's crontab would fire."""
    minute, hour, day, month, weekday = cron.split()
    schedule = crontab(minute, hour, weekday, day, month, nowfun=lambda: instant, app=_UTC_APP)
    last_run_at, forward, _ = schedule.remaining_delta(instant)
    assert last_run_at + forward == next(slots.following(cron, instant))


def test_a_year_of_nights_has_a_slot_each(seed: int) -> None:
    """Walking a year in uneven steps finds every night's slot once, at half past two UTC."""
    found = set()
    with freeze_time("2026-01-01T02:30:00Z") as clock:
        for step in range(365 * 24):
            clock.tick(timedelta(minutes=45 + (seed + step * 7919) % 31))
            found.add(slots.newest(_NIGHTLY, datetime.now(UTC)))
        walked_until = datetime.now(UTC)
    expected = list(slots.between(_NIGHTLY, datetime(2026, 1, 1, tzinfo=UTC), walked_until))
    assert sorted(found) == expected
    assert all(later - earlier == _DAY for earlier, later in pairwise(expected))


@pytest.mark.parametrize(
    ("midnight", "hours"),
    [(datetime(2026, 3, 29, tzinfo=_BERLIN), 23), (datetime(2026, 10, 25, tzinfo=_BERLIN), 25)],
    ids=["an hour is left out", "an hour comes twice"],
)
def test_changing_clocks_change_no_slot(midnight: datetime, hours: int) -> None:
    """On both days that the clocks change, hourly slots stay an hour apart and the nightly one comes once."""
    next_midnight = (midnight + _DAY).replace(tzinfo=_BERLIN)
    hourly = list(slots.between("0 * * * *", midnight, next_midnight))
    assert len(hourly) == hours
    assert all(later - earlier == _HOUR for earlier, later in pairwise(hourly))
    assert len(list(slots.between(_NIGHTLY, midnight, next_midnight))) == 1


def test_a_clock_that_goes_back_finds_the_same_slots_again() -> None:
    """The slot depends on the instant alone: going back gives old slots, never new ones."""
    with freeze_time("2026-06-01T12:05:30Z") as clock:
        first = slots.newest("*/5 * * * *", datetime.now(UTC))
        clock.tick(timedelta(minutes=-7))
        assert slots.newest("*/5 * * * *", datetime.now(UTC)) == datetime(2026, 6, 1, 11, 55, tzinfo=UTC)
        clock.tick(timedelta(minutes=9))
        assert slots.newest("*/5 * * * *", datetime.now(UTC)) == first


def test_the_leap_day_has_its_slots() -> None:
    """A slot on 29 February comes every four years."""
    found = islice(slots.following("0 0 29 2 *", datetime(2025, 1, 1, tzinfo=UTC)), 2)
    assert [slot.year for slot in found] == [2028, 2032]


@pytest.mark.parametrize(
    ("cron", "period"),
    [
        ("* * * * *", timedelta(minutes=1)),
        ("*/7 * * * *", timedelta(minutes=4)),
        (_NIGHTLY, _DAY),
        ("0 1,23 * * *", 2 * _HOUR),
        ("0 0 * * 1", 7 * _DAY),
        ("0 0 31 * *", 31 * _DAY),
        ("0 0 29 2 *", 4 * 365 * _DAY + _DAY),
    ],
)
def test_the_shortest_period_is_the_smallest_gap(cron: str, period: timedelta) -> None:
    """Uneven steps, midnight and short months are counted."""
    assert slots.shortest_period(cron) == period


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("* * * *", "has 4 fields, expected 5"),
        ("0 * * * * *", "has 6 fields, expected 5"),
        ("*  * * * *", "has 6 fields"),
        ("60 * * * *", "minute '60': numbers go up from 0 to 59"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 0 * *", "day of the month '0': numbers go up from 1 to 31"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 7", "day of the week '7': numbers go up from 0 to 6"),
        ("0 0 * * MON", "day of the week 'MON': write a number"),
        ("0 0 L * *", "day of the month 'L': write a number"),
        ("5/10 * * * *", "minute '5/10': write a number"),
        ("50-10 * * * *", "numbers go up"),
        ("0-0/5 * * * *", "numbers go up"),
        ("*/0 * * * *", "a step of 0"),
        ("0,,5 * * * *", "write a number"),
        ("0 0 30 2 *", "names no instant"),
        ("0 0 1 * 1", "sets both day of the month and day of the week"),
    ],
)
def test_an_expression_that_could_be_misread_is_refused(cron: str, reason: str) -> None:
    """What cron, Celery and cronsim read differently does not pass."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        slots.check(cron)


def test_naive_instants_are_refused() -> None:
    """An instant without a zone could be anywhere."""
    with pytest.raises(ValueError, match="naive datetime"):
        slots.newest(_NIGHTLY, datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
