"""When a ping is tried again, and when not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ledger.pings import (
    GIVE_UP_AFTER,
    LONGEST_DELAY,
    MAX_BODY_BYTES,
    DuePing,
    Failure,
    body_of,
    decide_next_try,
    failure_of_status,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ping(*, tries: int = 1, age: timedelta = timedelta()) -> DuePing:
    return DuePing(id=1, entry="nightly", run_id="run", signal="fail", detail=None, created_at=NOW - age, tries=tries)


@given(tries=st.integers(1, 10_000), age=st.timedeltas(timedelta(), GIVE_UP_AFTER - timedelta(seconds=1)))
def test_waits_grow_to_a_limit(tries: int, age: timedelta) -> None:
    """Within a day there is always a next try, never at once and never later than the limit."""
    following = decide_next_try(ping(tries=tries, age=age), Failure(reason="away"), now=NOW)
    assert following.at is not None
    assert timedelta(seconds=2) <= following.at - NOW <= LONGEST_DELAY


def test_day_old_ping_is_given_up() -> None:
    """A switch that has not answered for a day has told its own story."""
    following = decide_next_try(ping(tries=290, age=GIVE_UP_AFTER), Failure(reason="away"), now=NOW)
    assert (following.at, following.reason) == (None, "away; given up after 290 tries in a day")


def test_final_failure_is_given_up_at_once() -> None:
    """What fails the same way each time is told at once."""
    assert decide_next_try(ping(), Failure(reason="status 404", is_final=True), now=NOW).at is None


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(200, None), (204, None), (301, True), (400, True), (404, True), (408, False), (429, False), (500, False)],
)
def test_status_says_whether_to_try_again(status: int, is_final: bool | None) -> None:  # noqa: FBT001  a parameter
    """Our own mistakes stay mistakes; the switch's own troubles pass."""
    failure = failure_of_status(status)
    assert (failure and failure.is_final) is is_final


@given(st.text())
def test_body_is_a_beginning_of_the_detail(detail: str) -> None:
    """Whatever the detail, the body is text and not too long."""
    body = body_of(detail * 500)
    assert len(body) <= MAX_BODY_BYTES
    body.decode()
