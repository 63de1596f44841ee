"""What is refused, and what is not."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew._validation import (
    check_amount,
    check_context,
    check_counts,
    check_key,
    check_outcome,
    event_hour,
)
from nightcrew.errors import InvalidUsageError
from nightcrew.wire import EARLIEST_EVENT_HOUR, MAX_AMOUNT, MAX_KEY_BYTES
from tests.unit.nightcrew.log_in_memory import HOUR


class _Colour(str, enum.Enum):  # noqa: UP042 - a StrEnum's text is its value anyway
    RED = "red"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        (None, "text"),
        (b"bytes", "text"),
        (7, "text"),
        (["a"], "text"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("ä" * 257, "514 bytes"),
        ("x" * 10_000, "10000 bytes"),
    ],
)
def test_bad_keys_are_refused(key: Any, reason: str) -> None:
    """The text says why, in a line of bearable length."""
    with pytest.raises(InvalidUsageError, match=reason) as caught:
        check_key(key)
    assert len(str(caught.value)) < 350


@pytest.mark.parametrize("key", ["k", "ä" * 256, "x" * 512, "😀" * 128, " ", "a\nb", _Colour.RED])
def test_good_keys_come_back_plain(key: str) -> None:
    """A key is any text of up to 512 bytes; a subclass of str is made plain."""
    assert check_key(key) == key.__str__() or check_key(key) == "red"
    assert type(check_key(key)) is str


def test_a_context_may_be_empty() -> None:
    """Everything else is as with keys."""
    assert check_context("") == ""
    with pytest.raises(InvalidUsageError, match="context"):
        check_context("a\0")


@pytest.mark.parametrize(
    "amount",
    [0, -1, True, 1.0, "1", None, MAX_AMOUNT + 1, 2**63, 1 << 20_000, float("nan")],
    ids=lambda amount: type(amount).__name__,
)
def test_bad_amounts_are_refused(amount: Any) -> None:
    """Only whole numbers that every JSON reader keeps exact."""
    with pytest.raises(InvalidUsageError, match="amount"):
        check_amount(amount)


@pytest.mark.parametrize("accepted", [1, 0, "yes", "", 1.0])
def test_bad_outcomes_are_refused(accepted: Any) -> None:
    """True, False and None are all there is."""
    with pytest.raises(InvalidUsageError, match="accepted"):
        check_outcome(accepted)


def test_hours_are_those_of_utc() -> None:
    """The zone of the instant does not matter, having one does."""
    nine = datetime(2027, 1, 15, 9, 30, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert event_hour(nine, now_hour=HOUR) == int(nine.timestamp()) // 3600
    for bad in (
        datetime(2027, 1, 15, 9, 30),  # noqa: DTZ001 - naive on purpose
        "2027-01-15",
        1_800_000_000,
        datetime(1999, 12, 31, 23, 59, tzinfo=UTC),
        datetime.fromtimestamp((HOUR + 25) * 3600, UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ):
        with pytest.raises(InvalidUsageError, match="at "):
            event_hour(bad, now_hour=HOUR)
    assert event_hour(datetime(2000, 1, 1, tzinfo=UTC), now_hour=HOUR) == EARLIEST_EVENT_HOUR
    assert event_hour(datetime.fromtimestamp((HOUR + 24) * 3600 + 3599, UTC), now_hour=HOUR) == HOUR + 24


@given(
    st.dictionaries(
        st.one_of(st.text(st.characters(), max_size=520), st.text("aä\0\ud800", max_size=300), st.integers()),
        st.one_of(st.integers(-1, MAX_AMOUNT + 1), st.booleans()),
        max_size=5,
    )
)
def test_many_are_judged_as_one_by_one(counts: dict[Any, Any]) -> None:
    """The fast check of many counts accepts exactly what the checks of single values accept."""
    try:
        expected = {check_key(key): check_amount(amount) for key, amount in counts.items()}
    except InvalidUsageError:
        with pytest.raises(InvalidUsageError):
            check_counts(counts)
    else:
        assert check_counts(counts) == expected


@given(st.text(min_size=1))
def test_what_is_accepted_fits_the_wire(key: str) -> None:
    """Every accepted key can be encoded and stored."""
    try:
        checked = check_key(key)
    except InvalidUsageError:
        return
    assert 1 <= len(checked.encode()) <= MAX_KEY_BYTES
    assert "\0" not in checked
