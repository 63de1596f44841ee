"""Curves from the access log's samples come close to the truth, and their bands say how close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tasks.ttl.curves import hit_rates
from tasks.ttl.gathering import gather
from tasks.ttl.replay import MODES, Mode, count_hits
from tasks.ttl.sampling import exact_sample, sample_of
from tasks.ttl.study import usual_ttls_s
from tests.support.sampled import FAMILY, sampled
from tests.support.traces import mooncake, trace_of, weblog

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tasks.ttl.traces import Trace

MEAN_ERROR = 0.005
WORST_ERROR = 0.02
"""Of the 95th of 100 seeds, for the worst time to live."""
COVERAGE = 0.9


def _truth(trace: Trace, ttls_ms: list[int], mode: Mode) -> NDArray[np.float64]:
    rates: NDArray[np.float64] = count_hits(trace, ttls_ms, mode) / trace.gets
    return rates


def _misses_and_covers(trace: Trace, seeds: range) -> dict[Mode, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Give by mode the errors and whether the band held, by seed and time to live."""
    ttls_ms = [round(ttl_s * 1_000) for ttl_s in usual_ttls_s(trace.span_ms)]
    truths = {mode: _truth(trace, ttls_ms, mode) for mode in MODES}
    errors: dict[Mode, list[NDArray[np.float64]]] = {mode: [] for mode in MODES}
    covers: dict[Mode, list[NDArray[np.bool_]]] = {mode: [] for mode in MODES}
    for seed in seeds:
        (followed,) = gather(sampled(trace, seed))
        sample = sample_of(followed)
        for mode in MODES:
            rates = hit_rates(sample, ttls_ms, mode)
            errors[mode].append(np.array([rate.value for rate in rates]) - truths[mode])
            low, high = np.array([rate.low for rate in rates]), np.array([rate.high for rate in rates])
            covers[mode].append((low - 1e-9 <= truths[mode]) & (truths[mode] <= high + 1e-9))
    return {mode: (np.array(errors[mode]), np.array(covers[mode])) for mode in MODES}


def _check(trace: Trace, seeds: range) -> None:
    for mode, (errors, covers) in _misses_and_covers(trace, seeds).items():
        told = f"{mode}, seeds {seeds}"
        assert np.abs(errors).mean() <= MEAN_ERROR, told
        assert np.quantile(np.abs(errors).max(axis=1), 0.95) <= WORST_ERROR, told
        assert covers.mean() >= COVERAGE, told


@pytest.mark.long
@pytest.mark.parametrize("load", [weblog, mooncake])
def test_a_hundred_seeds_come_close(load: Callable[[], Trace]) -> None:
    """Mean error at most 0.5 points, p95 of the worst time to live at most 2, the band holds 90 times of 100."""
    _check(load(), range(1, 101))


def test_some_seeds_come_close() -> None:
    """As above, with three seeds of the trace whose keys are mostly asked for once."""
    _check(mooncake(), range(1, 4))


def test_weights_give_the_requests_that_were_counted() -> None:
    """What is estimated for the whole is calibrated: all requests together, and all hits of the day as well."""
    trace = mooncake()
    (followed,) = gather(sampled(trace, 7, processes=3))
    sample = sample_of(followed)
    assert not sample.is_exact
    assert followed.requests == trace.gets
    assert sample.weight[sample.is_counted].sum() == pytest.approx(trace.gets)
    (rate,) = hit_rates(sample, [3_600_000], "fixed")
    assert rate.hits == pytest.approx(count_hits(trace, [3_600_000], "fixed")[0], rel=0.002)


@pytest.mark.parametrize("mode", MODES)
def test_all_keys_followed_is_exact(mode: Mode) -> None:
    """A family that is small enough is followed whole, and then the curve is the replay's, with no band."""
    rng = np.random.default_rng(11)
    trace = trace_of(np.sort(rng.integers(0, 600_000, 2_000)).tolist(), rng.integers(0, 40, 2_000).tolist())
    (followed,) = gather(sampled(trace, 3))
    rates = hit_rates(sample_of(followed), [1_000, 30_000], mode)
    assert [rate.hits for rate in rates] == count_hits(trace, [1_000, 30_000], mode).tolist()
    assert all(rate.low == rate.value == rate.high for rate in rates)


def test_no_request_has_a_rate_of_zero() -> None:
    """An empty trace is no division by zero."""
    (rate,) = hit_rates(exact_sample(FAMILY, trace_of([], [])), [1_000], "fixed")
    assert (rate.hits, rate.value) == (0, 0.0)
