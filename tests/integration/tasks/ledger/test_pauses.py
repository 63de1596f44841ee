"""A paused entry is not run, its slots say why, and the pause ends by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.ledger.firing import fire_slot, make_run_now
from tasks.ledger.overview import look_at
from tasks.ledger.pauses import LONGEST, pause, resume
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.walking import walk_timetable
from tests.integration.tasks.ledger.test_slots import DAY, EVENING, HOUR, SLOT, evening, nightly, rows, states

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.ledger.catching_up import Pause
    from tests.integration.tasks.ledger.conftest import Bench


def stop(bench: Bench, until: datetime) -> Pause:
    return pause(nightly(), bench.runtime, until=until, reason="moving house", by="ada")


def test_a_paused_slot_is_called_off_with_the_reason(bench: Bench) -> None:
    """Beat may fire it and the reconciler walk it: it is cancelled, says who paused it and why, and no job starts."""
    evening(bench, nightly())
    stop(bench, SLOT + DAY + HOUR)
    bench.clock.now = SLOT
    assert fire_slot(nightly(), bench.runtime) is None
    bench.clock.now = SLOT + DAY
    reconcile(bench.runtime)
    assert states(bench) == ["cancelled", "cancelled"]
    assert {run.error for run in rows(bench).values()} == {"paused by ada until 2026-03-03T03:30Z: moving house"}
    assert bench.queue.published == []


def test_a_pause_ends_by_itself(bench: Bench) -> None:
    """The first slot after its end runs in time, and nothing of the pause is caught up."""
    evening(bench, nightly("last"), nightly("all", name="each"))
    for entry in bench.runtime.timetable.values():
        pause(entry, bench.runtime, until=SLOT + DAY, reason="moving house", by="ada")
    bench.clock.now = SLOT + 2 * DAY
    reconcile(bench.runtime)
    for name in ("nightly", "each"):
        assert states(bench, name) == ["cancelled", "cancelled", "queued"]
    assert [standing.pause for standing in look_at(bench.runtime.timetable.values(), bench.runtime)] == [None, None]


def test_resuming_ends_a_pause_and_calls_nothing_back(bench: Bench) -> None:
    """Slots of the time before stay called off, also those that nobody has walked yet; the next one runs."""
    evening(bench, nightly("all"))
    stop(bench, SLOT + 9 * DAY)
    bench.clock.now = SLOT + HOUR
    ended = resume(nightly(), bench.runtime, by="ada")
    assert (ended and ended.reason, resume(nightly(), bench.runtime, by="ada")) == ("moving house", None)
    bench.clock.now = SLOT + DAY
    reconcile(bench.runtime)
    assert states(bench) == ["cancelled", "queued"]


def test_an_outage_before_a_pause_does_not_run_into_it(bench: Bench) -> None:
    """What was left out before a pause does not start in it, and a pause upon a pause forgets no slot of the first."""
    evening(bench, nightly())
    bench.clock.now = SLOT + HOUR
    stop(bench, SLOT + DAY + HOUR)
    bench.clock.now = SLOT + 2 * HOUR
    assert stop(bench, SLOT + 2 * DAY + HOUR).since == SLOT + HOUR
    reconcile(bench.runtime)
    assert states(bench) == ["cancelled"]
    bench.clock.now = SLOT + 3 * DAY
    walk_timetable(bench.runtime)
    assert states(bench) == ["cancelled"] * 3 + ["queued"]


def test_a_paused_entry_runs_when_asked_by_hand(quick_bench: Bench) -> None:
    """Its slot is called off all the same: the run stands outside the timetable."""
    bench = quick_bench
    evening(bench, nightly())
    stop(bench, SLOT + DAY)
    bench.clock.now = SLOT
    run = make_run_now(nightly(), bench.runtime)
    assert (run.slot_at, states(bench)) == (None, ["cancelled"])


def test_what_runs_already_goes_on(quick_bench: Bench) -> None:
    """A pause stops no work."""
    bench = quick_bench
    evening(bench, nightly())
    bench.clock.now = SLOT
    run = fire_slot(nightly(), bench.runtime)
    assert run is not None
    stop(bench, SLOT + DAY)
    assert bench.deliver(lambda _message, _runtime: None, job_id=run.id).verdict == "succeeded"


def test_an_entry_is_shown_as_paused_and_not_as_overdue(bench: Bench) -> None:
    """While the pause lasts the look says so, and an entry whose slots nobody walks is still not overdue."""
    evening(bench, nightly())
    stop(bench, SLOT + DAY)
    bench.clock.now = SLOT + 2 * HOUR
    [standing] = look_at([nightly()], bench.runtime)
    assert standing.pause is not None
    assert (standing.pause.by, standing.judgement.verdict) == ("ada", "ok")


@pytest.mark.parametrize(
    ("reason", "length", "complaint"),
    [
        (" ", DAY, "needs a reason"),
        ("why not", timedelta(), "ends in the future, and 2026-03-01 20:00Z is over"),
        ("why not", LONGEST + DAY, "366 days at most"),
    ],
)
def test_a_pause_has_a_reason_and_an_end(quick_bench: Bench, reason: str, length: timedelta, complaint: str) -> None:
    """What could be forgotten is refused, and nothing is written."""
    evening(quick_bench, nightly())
    with pytest.raises(ValueError, match=complaint):
        pause(nightly(), quick_bench.runtime, until=EVENING + length, reason=reason, by="ada")
    [standing] = look_at([nightly()], quick_bench.runtime)
    assert standing.pause is None
