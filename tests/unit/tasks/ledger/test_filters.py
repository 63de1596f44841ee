"""Filters are read from what an operator types, and refuse what means nothing."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ledger.filters import Filter, InvalidFilterError, check_filter, parse_moment, parse_states
from tasks.ledger.states import State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d12h", NOW - timedelta(hours=36)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("1w", NOW - timedelta(days=7)),
        ("2026-02-28", datetime(2026, 2, 28, tzinfo=UTC)),
        ("2026-02-28T06:30", datetime(2026, 2, 28, 6, 30, tzinfo=UTC)),
        ("2026-02-28T06:30Z", datetime(2026, 2, 28, 6, 30, tzinfo=UTC)),
        ("2026-02-28T06:30+02:00", datetime(2026, 2, 28, 4, 30, tzinfo=UTC)),
    ],
)
def test_moments(text: str, instant: datetime) -> None:
    """A duration counts back from now, an instant is UTC unless it says otherwise."""
    found = parse_moment(text, now=NOW)
    assert (found, found.utcoffset()) == (instant, timedelta())


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2y", "-2h", "yesterday", "2026-13-01", "1e3s", "٣h "])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """The error shows how a time is written."""
    with pytest.raises(InvalidFilterError, match="write how long ago"):
        parse_moment(text, now=NOW)


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    """However many digits it has."""
    for text in ("9999999d", f"{'9' * 400}d"):
        with pytest.raises(InvalidFilterError, match="longer ago"):
            parse_moment(text, now=NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    """Nothing but the one error comes out."""
    with suppress(InvalidFilterError):
        assert parse_moment(text, now=NOW).tzinfo is UTC


def test_states_are_read_by_name() -> None:
    """A name that is nearly right is answered with the right one."""
    assert parse_states(["dead", "failed", "dead"]) == {State.DEAD, State.FAILED}
    assert parse_states([]) == frozenset()
    with pytest.raises(InvalidFilterError, match="did you mean cancelled"):
        parse_states(["canceled"])
    with pytest.raises(InvalidFilterError, match="one of queued, running"):
        parse_states(["happy"])


def test_a_filter_that_nothing_can_pass_is_refused() -> None:
    """It would only look as if there was nothing."""
    assert check_filter(Filter()).is_empty
    assert not check_filter(Filter(error="x")).is_empty
    with pytest.raises(InvalidFilterError, match="nothing lies between"):
        check_filter(Filter(since=NOW, until=NOW))
    for wanted in (Filter(kind=""), Filter(error="a\0b")):
        with pytest.raises(InvalidFilterError, match="matches nothing"):
            check_filter(wanted)


def test_a_filter_says_what_it_means() -> None:
    """In one line, for the answer that nothing was found."""
    wanted = Filter(states=frozenset({State.FAILED, State.DEAD}), kind="a.b", since=NOW, parent_id="7")
    assert str(wanted) == "states dead/failed, kind a.b, since 2026-03-01 12:00:00Z, parent 7"
    assert str(Filter()) == "every run"
