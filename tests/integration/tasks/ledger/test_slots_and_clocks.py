"""Clocks that run ahead, are set back or differ a little: every slot runs in its own time all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tasks.ledger.catching_up import CLOCK_TOLERANCE
from tasks.ledger.firing import fire_slot
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State
from tasks.ledger.walking import walk_timetable
from tests.integration.tasks.ledger.test_slots import (
    DAY,
    EVENING,
    SLOT,
    done,
    errors,
    evening,
    nightly,
    rows,
    states,
    walked_until,
)

if TYPE_CHECKING:
    from tests.integration.tasks.ledger.conftest import Bench
    from tests.integration.tasks.ledger.test_slots import CatchUp


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_clock_that_ran_a_year_ahead_swallows_no_slot(bench: Bench, catch_up: CatchUp, log: list[Any]) -> None:
    """What it wrote is taken back when it is right again, what it ran stays, and every slot runs in its time."""
    entry = nightly(catch_up)
    evening(bench, entry)
    bench.clock.advance(days=365)
    bench.clock.now = bench.clock.now.replace(hour=2, minute=30)
    [early] = [run for run in walk_timetable(bench.runtime)[0].fired if run.slot_at == bench.clock.now]
    bench.deliver(done, job_id=early.id)
    bench.clock.now = EVENING + timedelta(seconds=30)
    reconcile(bench.runtime)
    assert rows(bench) == {}
    assert walked_until(bench) <= bench.clock.now
    assert errors(log, "ledger.clock_ran_ahead")[0]["entry"] == "nightly"
    assert (bench.run(early.id).state, bench.run(early.id).slot_at) == (State.SUCCEEDED, None)
    for night in range(3):
        bench.clock.now = SLOT + night * DAY
        run = fire_slot(entry, bench.runtime)
        assert run is not None
        assert bench.deliver(done, job_id=run.id).verdict == "succeeded"
    assert states(bench) == ["succeeded"] * 3
    assert all(run.is_late is False for run in rows(bench).values())


def test_the_last_slot_before_its_time_runs_again_in_time(bench: Bench) -> None:
    """Set back by an hour right after the nightly slot, the slot comes twice, and runs in its own time."""
    evening(bench, nightly())
    bench.clock.now = SLOT
    early = fire_slot(nightly(), bench.runtime)
    assert early is not None
    bench.deliver(done, job_id=early.id)
    bench.clock.advance(minutes=-59)
    reconcile(bench.runtime)
    bench.clock.now = SLOT
    again = fire_slot(nightly(), bench.runtime)
    assert again is not None
    assert again.id != early.id
    assert rows(bench) == {SLOT: again}


def test_clocks_a_little_apart_are_left_alone(bench: Bench) -> None:
    """Two machines whose clocks differ by seconds do not take back each other's slots."""
    evening(bench, nightly())
    bench.clock.now = SLOT + timedelta(seconds=5)
    run = fire_slot(nightly(), bench.runtime)
    assert run is not None
    bench.clock.now -= CLOCK_TOLERANCE
    walk_timetable(bench.runtime)
    bench.clock.now = SLOT + timedelta(seconds=4)
    assert fire_slot(nightly(), bench.runtime) is None
    assert list(rows(bench).values()) == [run]
    assert walked_until(bench) == SLOT + timedelta(seconds=5)
