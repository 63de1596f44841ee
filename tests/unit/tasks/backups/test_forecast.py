"""How long a restore is expected to take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.forecast import MeasuredRestore, Workload, predict, workload_of
from tests.unit.tasks.backups.histories import chain

SQLITE = 888_900_000


def measured(factor: float, *, deltas: int = 3) -> MeasuredRestore:
    """Give a restore that took so many times what the constants say."""
    work = Workload(size_bytes=SQLITE, deltas=deltas, delta_bytes=10_000_000)
    return MeasuredRestore(work=work, seconds=predict(work).seconds * factor)


def test_without_measures_it_is_slower_than_the_series_it_rests_on() -> None:
    """The full of the series was restored in 14.2 s and validated in 23.6 s; 24 deltas took 8.5 s each."""
    alone = predict(Workload(size_bytes=SQLITE)).seconds
    deep = predict(Workload(size_bytes=SQLITE, deltas=24, delta_bytes=24 * 48_500_000)).seconds
    assert 14.2 + 23.6 < alone < 3 * (14.2 + 23.6)
    assert 24 * 8.5 + alone < deep < 15 * 60
    assert predict(Workload(size_bytes=SQLITE)).basis == "rates of a series on a loaded machine"


def test_a_restore_reads_the_deltas_and_writes_the_last_size() -> None:
    """The workload of a point is its own size, and the deltas on the path to it."""
    path = chain(3, size_bytes=7_000, staged_bytes=50)
    assert workload_of(path) == Workload(size_bytes=7_000, deltas=3, delta_bytes=150)
    assert workload_of(path[:1]) == Workload(size_bytes=path[0].size_bytes)
    with pytest.raises(ValueError, match="no points"):
        workload_of([])


@pytest.mark.parametrize(
    ("factors", "scale"),
    [
        ([0.2], 1.0),
        ([0.2, 0.2], 1.0),
        ([0.2, 4.0], 4.0),
        ([0.2, 0.2, 0.2], 0.2),
        ([0.2, 9.0, 0.3, 0.25], 0.3),
        ([9.0, 8.0, 0.3, 0.25], 8.0),
        ([0.5] * 20 + [9.0] * 20, 0.5),
    ],
)
def test_measures_scale_it(factors: list[float], scale: float) -> None:
    """A few only make it longer; many may make it shorter, where a single slow one of the newest 20 does not rule."""
    work = Workload(size_bytes=5_000_000_000, deltas=9, delta_bytes=1)
    expected = predict(work).seconds * scale
    assert predict(work, [measured(factor) for factor in factors]).seconds == pytest.approx(expected)


@given(
    st.integers(0, 10**13), st.integers(0, 1_000), st.integers(0, 10**13), st.lists(st.floats(0.01, 100), max_size=5)
)
def test_more_work_never_takes_less_time(size: int, deltas: int, delta_bytes: int, factors: list[float]) -> None:
    """More to write, more steps, more to fetch: each takes longer."""
    known = [measured(factor) for factor in factors]
    work = Workload(size_bytes=size, deltas=deltas, delta_bytes=delta_bytes)
    more = [
        Workload(size_bytes=size + 1_000_000, deltas=deltas, delta_bytes=delta_bytes),
        Workload(size_bytes=size, deltas=deltas + 1, delta_bytes=delta_bytes),
        Workload(size_bytes=size, deltas=deltas, delta_bytes=delta_bytes + 1_000_000),
    ]
    assert all(predict(other, known).seconds > predict(work, known).seconds > 0 for other in more)


def test_negative_work_is_refused() -> None:
    """Sizes that cannot be are a fault of the caller."""
    with pytest.raises(ValueError, match="less than nothing"):
        Workload(size_bytes=-1)
