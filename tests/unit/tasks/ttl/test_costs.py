"""A bill is what counting by hand gives, and its parts by time and key add up to it."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from tasks.ttl.costs import GIB, HOUR_MS, Conditions, Period, Prices, bill
from tasks.ttl.gathering import gather
from tasks.ttl.replay import MODES, Mode
from tasks.ttl.sampling import exact_sample, sample_of
from tasks.ttl.staleness import longest_ttl_ms, stale_share
from tests.support.sampled import FAMILY, sampled
from tests.support.traces import mooncake, trace_of

CONDITIONS = Conditions(
    prices=Prices(miss=1.0, gib_hour=10.0, stale_read=0.5),
    updates_per_key_hour=2.0,
    entry_bytes=GIB // 2,
    assumed_bytes=GIB // 2,
)


def test_a_bill_by_hand() -> None:
    """Two misses, a hit of half an hour's age, a GiB for an hour and a half."""
    trace = trace_of([0, HOUR_MS // 2, 2 * HOUR_MS], [1, 1, 1])
    period = Period(from_ms=0, to_ms=2 * HOUR_MS + 1, block_ms=HOUR_MS)
    found = bill(exact_sample(FAMILY, trace), HOUR_MS, "fixed", CONDITIONS, period)
    stale = 1 - exp(-2.0 * 0.5)
    assert found.hits == 1
    assert found.stale_share == pytest.approx(stale)
    assert found.cost_per_hour == pytest.approx((2 + 0.5 * stale + 10.0) / 2, rel=1e-6)
    assert found.resident_bytes == pytest.approx(GIB / 2, rel=1e-6)
    assert found.known[0] == pytest.approx(1 + 0.5 * stale + 10.0)


def test_what_was_there_before_is_there_in_the_second_half() -> None:
    """An entry that was filled before the period still hits in it, and lies in its memory."""
    trace = trace_of([0, 90 * 60_000, 4 * HOUR_MS], [1, 1, 2])
    period = Period(from_ms=HOUR_MS, to_ms=2 * HOUR_MS, block_ms=HOUR_MS)
    found = bill(exact_sample(FAMILY, trace), 2 * HOUR_MS, "fixed", CONDITIONS, period)
    assert (found.hits, found.requests) == (1, 1)
    assert found.resident_bytes == pytest.approx(GIB)


@pytest.mark.parametrize("mode", MODES)
def test_blocks_add_up_to_the_whole(mode: Mode) -> None:
    """However a period is cut, it costs the same; of a sample as of the whole."""
    trace = mooncake()
    (followed,) = gather(sampled(trace, 5))
    sample = sample_of(followed)
    begin, end = int(sample.trace.at_ms[0]), int(sample.trace.at_ms[-1]) + 1
    cut = bill(sample, 300_000, mode, Conditions(), Period(from_ms=begin, to_ms=end, block_ms=60_000))
    whole = bill(sample, 300_000, mode, Conditions(), Period(from_ms=begin, to_ms=end, block_ms=end - begin))
    assert cut.cost_per_hour == pytest.approx(whole.cost_per_hour)
    assert cut.resident_bytes == pytest.approx(whole.resident_bytes)
    assert len(cut.known) > len(whole.known) == 1


def test_a_sample_tells_the_memory() -> None:
    """What lies in the cache on the average, from a sample, within five parts of a hundred."""
    trace = mooncake()
    (followed,) = gather(sampled(trace, 5))
    begin, end = int(trace.at_ms[0]), int(trace.at_ms[-1]) + 1
    period = Period(from_ms=begin, to_ms=end, block_ms=end - begin)
    conditions = Conditions(assumed_bytes=100)
    truth = bill(exact_sample(FAMILY, trace), 60_000, "fixed", conditions, period)
    found = bill(sample_of(followed), 60_000, "fixed", conditions, period)
    assert found.resident_bytes == pytest.approx(truth.resident_bytes, rel=0.05)


def test_staleness_is_that_of_random_updates() -> None:
    """The formula against a simulation of a million reads, and its inverse against itself."""
    rng = np.random.default_rng(1)
    ages_h = rng.uniform(0, 0.5, 1_000_000)
    is_stale = rng.exponential(1 / 3.0, 1_000_000) < ages_h
    assert stale_share(0.5 * HOUR_MS, 3.0) == pytest.approx(is_stale.mean(), abs=0.002)
    longest = longest_ttl_ms(3.0, 0.1)
    assert stale_share(longest, 3.0) <= 0.1 < stale_share(longest + 2, 3.0)
    assert stale_share(HOUR_MS, 0.0) == 0.0
