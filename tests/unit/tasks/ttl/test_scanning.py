"""Pages stay short, rests stay long, and a slow server is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ttl.scanning import LatencyWatch, PageSize, ScanOptions, percentile, rest_s, wait_s


@given(us_per_key=st.floats(1, 900), page_ms=st.floats(0.1, 1.0))
def test_pages_become_as_long_as_they_may(us_per_key: float, page_ms: float) -> None:
    """Whatever a key costs: after some pages none is longer than it may be, and none is needlessly short."""
    size = PageSize(page_ms)
    took_ms = 0.0
    for _ in range(60):
        took_ms = size.count * us_per_key / 1_000
        size.took(took_ms)
    assert took_ms <= page_ms or size.count == 1
    longest = 1_000 * us_per_key / 1_000
    assert took_ms >= min(0.4 * page_ms, longest * 0.9) or size.count <= 2


def test_a_page_that_was_far_too_long_is_halved_at_once() -> None:
    """And one that was a little too long becomes a little shorter; none is empty."""
    size = PageSize(1.0)
    size.count = 100
    size.took(0.95)
    assert 80 < size.count < 100
    size.count = 100
    size.took(30.0)
    assert size.count == 50
    for _ in range(20):
        size.took(30.0)
    assert size.count == 1


@given(busy_s=st.floats(1e-6, 1.0), duty=st.floats(0.0001, 0.1))
def test_work_is_its_share_of_the_whole(busy_s: float, duty: float) -> None:
    """A rest follows each page, as long as the duty wants it."""
    rest = rest_s(busy_s, duty)
    assert busy_s / (busy_s + rest) == pytest.approx(duty)


def test_one_slow_round_trip_is_chance_and_four_are_not() -> None:
    """Slow is more than twice the 99th percentile of before, within the last 64; a pause begins anew."""
    watch = LatencyWatch([1.0] * 98 + [3.0, 9.0])
    assert watch.slow_ms == 6.0
    for _ in range(3):
        watch.saw(6.1)
        watch.saw(5.9)
    assert not watch.is_slow
    watch.saw(6.1)
    assert watch.is_slow
    for _ in range(64):
        watch.saw(1.0)
    assert not watch.is_slow
    for _ in range(4):
        watch.saw(60.0)
    watch.forget()
    assert not watch.is_slow


def test_round_trips_below_a_millisecond_are_never_slow() -> None:
    """On a loopback that answers in 50 us a ping of 0.2 ms says nothing."""
    assert LatencyWatch([0.05] * 100).slow_ms == 1.0


def test_pauses_double_up_to_a_bound() -> None:
    """From a tenth of a second to five seconds, however often in a row."""
    assert [wait_s(tries) for tries in (0, 1, 2, 3)] == [0.1, 0.2, 0.4, 0.8]
    assert wait_s(10) == wait_s(10_000) == 5.0


def test_percentiles_are_values_that_were_there() -> None:
    """By rank; of nothing it is 0."""
    assert percentile([], 0.99) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([7], 0.01) == 7


@pytest.mark.parametrize(
    "wrong", [{"page_ms": 1.1}, {"duty": 0.11}, {"duty": 0.0}, {"budget_keys": 0}, {"max_s": float("nan")}]
)
def test_nobody_can_ask_for_more_than_the_bounds(wrong: dict[str, float]) -> None:
    """A page of more than a millisecond, or more than a tenth of the server's time, is refused."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(ScanOptions(), **wrong)  # type: ignore[arg-type]
