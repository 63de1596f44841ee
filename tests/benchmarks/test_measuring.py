"""The benchmarks cannot praise what counted wrongly."""

from __future__ import annotations

import pytest

from tests.benchmarks import workloads
from tests.benchmarks.measuring import Contender, Sample, WrongCountError, check_counts, take_rounds


@pytest.mark.parametrize("found", [{"a": 1}, {"a": 1, "b": 3}, {"a": 2, "b": 1}, {"a": 1, "b": 2, "c": 0}])
def test_each_wrong_count_is_an_error(found: dict[str, int]) -> None:
    """A missing key, a wrong amount, an exchange that leaves the sum as it is, and a key too many."""
    with pytest.raises(WrongCountError):
        check_counts("ours", found, {"a": 1, "b": 2})


def test_contenders_take_turns() -> None:
    """Whoever is measured twice in a row would profit from a quiet moment; the median is of all rounds."""
    order: list[str] = []

    def contender(name: str, seconds: list[float]) -> Contender:
        def measure() -> Sample:
            order.append(name)
            return Sample(count=12, seconds=seconds.pop())

        return Contender(name=name, measure=measure)

    results = take_rounds([contender("a", [1, 2, 3]), contender("b", [4, 4, 4])], 3, order.append)
    assert [name for name in order if len(name) == 1] == ["a", "b"] * 3
    assert results["a"].rate == 6
    assert results["b"].spread == (3, 3)


def test_same_work_each_time() -> None:
    """Two runs count the same keys, and what must come out is known from the keys."""
    first = workloads.zipf(1_000)
    assert first == workloads.zipf(1_000)
    assert first.expected.total() == len(first.keys) == 1_000
    assert sum(map(len, first.chunks(300))) == 1_000
    mixed = workloads.shuffled(workloads.all_different(100))
    assert set(mixed.expected.values()) == {1}
    assert sorted(mixed.keys) == sorted(mixed.expected)
