"""The replay counts what a cache that is played through request by request counts, to the last request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ttl.replay import MODES, Mode, count_hits
from tests.support.traces import mooncake, played, trace_of, weblog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ttl.traces import Trace

TTLS_MS = [int(ttl_s * 1_000) for ttl_s in np.geomspace(1, 2 * 86_400, 40)]

EVENTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.sampled_from([0, 0, 0, 0, 1, 2])), max_size=60)


def made(events: list[tuple[int, int, int]]) -> Trace:
    """Make a trace of events, in the order of their instants."""
    ordered = sorted(events, key=lambda event: event[0])
    return trace_of([e[0] for e in ordered], [e[1] for e in ordered], [e[2] for e in ordered])


@pytest.mark.parametrize("mode", MODES)
@given(events=EVENTS, ttls_ms=st.lists(st.integers(1, 70), max_size=5))
def test_every_small_trace_is_exact(mode: Mode, events: list[tuple[int, int, int]], ttls_ms: list[int]) -> None:
    """With writes, deletions, several events in one millisecond, and gaps that are just as long as the time to live."""
    trace = made(events)
    assert count_hits(trace, ttls_ms, mode).tolist() == played(trace, ttls_ms, mode)


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32 - 1))
def test_many_keys_are_exact(mode: Mode, seed: int) -> None:
    """More keys than are followed one by one, some of them hot."""
    rng = np.random.default_rng(seed)
    at_ms = np.sort(rng.integers(0, 2_000, 1_500)).tolist()
    keys = np.minimum(rng.zipf(1.3, 1_500), 200).tolist()
    operations = rng.choice([0, 1, 2], 1_500, p=[0.9, 0.06, 0.04]).tolist()
    trace, ttls_ms = trace_of(at_ms, keys, operations), [1, 7, 50, 400, 3_000]
    assert count_hits(trace, ttls_ms, mode).tolist() == played(trace, ttls_ms, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load", [weblog, mooncake])
def test_real_traces_are_exact(load: Callable[[], Trace], mode: Mode) -> None:
    """To the last request, for times to live from a second to two days."""
    trace, some = load(), TTLS_MS[::8]
    assert count_hits(trace, some, mode).tolist() == played(trace, some, mode)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load", [weblog, mooncake])
def test_real_traces_are_exact_for_every_time(load: Callable[[], Trace], mode: Mode) -> None:
    """For each of forty."""
    trace = load()
    assert count_hits(trace, TTLS_MS, mode).tolist() == played(trace, TTLS_MS, mode)


@pytest.mark.parametrize("load", [weblog, mooncake])
def test_restarting_the_time_never_loses_hits(load: Callable[[], Trace]) -> None:
    """And more time loses none where it is restarted."""
    trace = load()
    sliding, fixed = (count_hits(trace, TTLS_MS, mode) for mode in MODES)
    assert (sliding >= fixed).all()
    assert (np.diff(sliding) >= 0).all()


def test_nothing_asked_is_nothing_hit() -> None:
    """An empty trace, no times, and a time that is none."""
    empty = trace_of([], [])
    assert count_hits(empty, [1, 2], "fixed").tolist() == [0, 0]
    assert count_hits(trace_of([1, 2], [1, 1]), [], "sliding").tolist() == []
    with pytest.raises(ValueError, match="a millisecond at least"):
        count_hits(empty, [0], "fixed")
