"""How far, and how long still."""

from __future__ import annotations

import pytest

from tasks.backups.eta import Pace, bytes_text, progress_text, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (850_000_000, "850 MB"),
        (1_254_000_000, "1.25 GB"),
        (7 * 10**18, "7e+03 PB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    """Sizes read as people say them, and never as 1000 of a unit that has a larger one."""
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (12.4, "12 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7_800, "2 h 10 min")],
)
def test_seconds_have_their_two_largest_units(seconds: float, text: str) -> None:
    """Durations are never longer than two words."""
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "left_s", "text"),
    [
        (357, 850, 12.0, "copy 42 % of 850 B, eta 12 s"),
        (357, 850, None, "copy 42 % of 850 B"),
        (900, 850, 3.0, "copy 100 % of 850 B"),
        (357, None, None, "copy 357 B"),
        (0, None, None, "copy"),
        (0, 0, None, "copy"),
    ],
)
def test_progress_is_one_line(done: int, total: int | None, left_s: float | None, text: str) -> None:
    """What is not known is left out."""
    assert progress_text("copy", done, total, left_s=left_s) == text


def test_steady_work_is_forecast_exactly() -> None:
    """At ten bytes a second, 50 bytes take five seconds more."""
    pace = Pace.start(0.0)
    for second in range(1, 6):
        pace = pace.after(second * 10, float(second))
    assert pace.left_s(100, 5.0) == pytest.approx(5.0)
    assert pace.left_s(100, 7.0) == pytest.approx(3.0), "time goes on while nothing is told"


def test_a_beginning_forecasts_nothing() -> None:
    """The first two seconds say too little, and no progress says nothing at all."""
    assert Pace.start(0.0).after(10, 1.0).left_s(100, 1.0) is None
    assert Pace.start(0.0).after(0, 9.0).left_s(100, 9.0) is None


def test_the_last_seconds_count_most() -> None:
    """Work that slows down is soon forecast by its new speed."""
    pace = Pace.start(0.0).after(1_000, 10.0)
    for second in range(11, 61):
        pace = pace.after(1_000 + (second - 10), float(second))
    assert pace.per_s == pytest.approx(1.0, abs=1.5)


def test_a_second_try_begins_anew() -> None:
    """What goes backwards forgets the speed of before."""
    pace = Pace.start(0.0).after(500, 5.0).after(10, 6.0)
    assert (pace.done, pace.per_s) == (10, None)
