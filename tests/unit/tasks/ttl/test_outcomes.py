"""Each request, played through by itself, has the outcome that a cache gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ttl.outcomes import Lanes
from tasks.ttl.replay import MODES, Mode, count_hits
from tasks.ttl.traces import Operation
from tests.support.traces import mooncake, trace_of, weblog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.ttl.traces import Trace

EVENTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.sampled_from([0, 0, 0, 0, 1, 2])), max_size=60)


@dataclass(slots=True)
class _Entry:
    filled_ms: int
    ends_ms: int


def _done_by_a_cache(trace: Trace, ttl_ms: int, mode: Mode) -> list[tuple[bool, bool, int]]:
    """Do what a cache does; of each event, whether it hit, whether it missed, and how old its answer was."""
    kept: dict[int, _Entry] = {}
    done = []
    for at, key, operation in zip(trace.at_ms.tolist(), trace.key.tolist(), trace.operation.tolist(), strict=True):
        entry = kept.get(key)
        hit = operation == Operation.GET and entry is not None and at <= entry.ends_ms
        if hit and entry is not None:
            age = at - entry.filled_ms
            if mode == "sliding":
                entry.ends_ms = at + ttl_ms
        else:
            age = 0
            kept[key] = _Entry(at, at + ttl_ms)
        if operation == Operation.DELETE:
            del kept[key]
        done.append((hit, operation == Operation.GET and not hit, age))
    return done


def _made(events: list[tuple[int, int, int]]) -> Trace:
    ordered = sorted(events, key=lambda event: event[0])
    return trace_of([e[0] for e in ordered], [e[1] for e in ordered], [e[2] for e in ordered])


@pytest.mark.parametrize("mode", MODES)
@given(events=EVENTS, ttl_ms=st.integers(1, 70))
def test_every_event_ends_as_in_a_cache(mode: Mode, events: list[tuple[int, int, int]], ttl_ms: int) -> None:
    """Hit, miss and age, with writes, deletions and several events in one millisecond."""
    trace = _made(events)
    lanes = Lanes.of(trace)
    outcomes = lanes.play(ttl_ms, mode)
    expected = [_done_by_a_cache(trace, ttl_ms, mode)[place] for place in lanes.order.tolist()]
    found = list(
        zip(outcomes.is_hit.tolist(), outcomes.is_miss.tolist(), outcomes.age_ms.tolist(), strict=True),
    )
    assert found == expected


@pytest.mark.parametrize("mode", MODES)
@given(events=EVENTS, ttl_ms=st.integers(1, 70))
def test_entries_are_there_as_long_as_a_cache_keeps_them(
    mode: Mode, events: list[tuple[int, int, int]], ttl_ms: int
) -> None:
    """Millisecond by millisecond: an entry lies from its event until it is replaced, taken away or expired."""
    trace = _made(events)
    lanes = Lanes.of(trace)
    outcomes = lanes.play(ttl_ms, mode)
    end_ms = int(trace.at_ms[-1]) if len(trace) else 0
    kept_ms = np.clip(np.minimum(outcomes.gone_ms, end_ms) - lanes.at_ms, 0, None).sum()
    assert kept_ms == sum(_present(trace, ttl_ms, mode, instant) for instant in range(end_ms))


def _present(trace: Trace, ttl_ms: int, mode: Mode, instant: int) -> int:
    """Count the entries that a cache has between an instant and the next millisecond."""
    ends: dict[int, int] = {}
    for at, key, operation in zip(trace.at_ms.tolist(), trace.key.tolist(), trace.operation.tolist(), strict=True):
        if at > instant:
            break
        alive = key in ends and at <= ends[key]
        if operation == Operation.DELETE:
            ends.pop(key, None)
        elif operation == Operation.SET or not alive or mode == "sliding":
            ends[key] = at + ttl_ms
    return sum(instant < end for end in ends.values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load", [weblog, mooncake])
def test_real_traces_agree_with_the_replay(load: Callable[[], Trace], mode: Mode) -> None:
    """Both ways of playing a trace give the same hits, to the last request."""
    trace, ttls_ms = load(), [1_000, 60_000, 3_600_000]
    lanes = Lanes.of(trace)
    hits = [int(lanes.play(ttl_ms, mode).is_hit.sum()) for ttl_ms in ttls_ms]
    assert hits == count_hits(trace, ttls_ms, mode).tolist()
