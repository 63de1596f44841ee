"""When an entry of the timetable needs somebody, and how its history adds up."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightcrew.messages import RunCanary
from schedules.entries import Entry
from tasks.ledger.catching_up import Pause
from tasks.ledger.history import record_of, summarize
from tasks.ledger.judging import EntryFacts, judge_entry
from tasks.ledger.runs import Run
from tasks.ledger.slots import wanted_slot
from tasks.ledger.states import State

NIGHTLY = Entry(
    name="nightly",
    cron="30 2 * * *",
    message=RunCanary(),
    catch_up="last",
    grace=timedelta(hours=1),
    max_duration=timedelta(hours=2),
)
SLOT = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def run(state: State, **changes: Any) -> Run:
    """Give the run of the slot as it stands in that state; an attempt began a minute after the slot."""
    empty: dict[str, Any] = {field.name: None for field in dataclasses.fields(Run)}
    wanted = dataclasses.asdict(wanted_slot(NIGHTLY, SLOT, now=SLOT))
    began = None if state in {State.QUEUED, State.MISSED, State.CANCELLED} else SLOT + MINUTE
    ended = {"finished_at": SLOT + 11 * MINUTE} if state not in {State.QUEUED, State.RUNNING} else {}
    attempts = {"attempt": 0 if began is None else 1, "started_at": began, "first_started_at": began}
    return Run(**{**empty, **wanted, **attempts, **ended, "state": state, **changes})


def facts(**changes: Any) -> EntryFacts:
    return EntryFacts(**{"walked_until": NOW, "pause": None, **changes})


@pytest.mark.parametrize(
    ("known", "verdict", "reason"),
    [
        (facts(), "ok", ""),
        (facts(walked_until=None), "ok", ""),
        (facts(walked_until=SLOT - MINUTE), "overdue", "nobody has fired the slot of 2026-03-02T02:30Z"),
        (facts(waiting=[run(State.QUEUED)]), "overdue", "the slot of 2026-03-02T02:30Z still waits to begin"),
        (facts(waiting=[run(State.QUEUED, first_started_at=SLOT)]), "ok", ""),
        (facts(waiting=[run(State.RUNNING, started_at=NOW - 2 * MINUTE)]), "ok", ""),
        (facts(waiting=[run(State.RUNNING)]), "overrunning", "runs for 3:29:00, 2:00:00 is the most"),
        (facts(newest_ended=run(State.SUCCEEDED)), "ok", ""),
        (facts(newest_ended=run(State.CANCELLED)), "ok", ""),
        (facts(newest_ended=run(State.FAILED, error="disk full")), "broken", "is failed: disk full"),
        (facts(newest_ended=run(State.DEAD)), "broken", "is dead: no reason is known"),
        (facts(newest_ended=run(State.MISSED)), "broken", "is missed"),
    ],
)
def test_a_verdict_has_its_reason(known: EntryFacts, verdict: str, reason: str) -> None:
    """Each thing that can be wrong is told; what is well has no reason."""
    found = judge_entry(NIGHTLY, known, now=NOW)
    assert found.verdict == verdict
    assert reason in " ".join(found.reasons)
    assert bool(found.reasons) == (verdict != "ok")


def test_grace_is_no_delay() -> None:
    """Until its grace is over a slot may wait."""
    end = SLOT + NIGHTLY.grace
    for known in (facts(walked_until=SLOT - MINUTE), facts(waiting=[run(State.QUEUED)])):
        assert judge_entry(NIGHTLY, known, now=end - timedelta(seconds=1)).verdict == "ok"
        assert judge_entry(NIGHTLY, known, now=end + timedelta(seconds=1)).verdict == "overdue"


def test_a_paused_slot_is_not_overdue() -> None:
    """Nobody waits for what was called off."""
    pause = Pause(since=SLOT - MINUTE, until=SLOT + MINUTE, reason="moving house", by="ada")
    assert judge_entry(NIGHTLY, facts(walked_until=SLOT - MINUTE, pause=pause), now=NOW).verdict == "ok"


def test_the_gravest_comes_first() -> None:
    """Everything that is wrong is told, and the verdict is that of the first."""
    known = facts(walked_until=SLOT - MINUTE, waiting=[run(State.RUNNING)], newest_ended=run(State.DEAD))
    found = judge_entry(NIGHTLY, known, now=NOW)
    assert (found.verdict, len(found.reasons)) == ("overdue", 3)


def test_a_history_adds_up() -> None:
    """Rates are of what was to run and has ended, durations of what ended well."""
    runs = [run(State.SUCCEEDED, finished_at=SLOT + (minutes + 1) * MINUTE) for minutes in range(1, 21)]
    runs += [run(State.FAILED, finished_at=NOW), run(State.MISSED), run(State.CANCELLED), run(State.RUNNING)]
    summary = summarize([record_of(one, now=NOW) for one in runs])
    assert (summary.slots, summary.success_rate) == (24, 20 / 22)
    assert (summary.p50_duration, summary.p95_duration) == (10 * MINUTE, 19 * MINUTE)
    assert (summary.longest_duration, summary.last_success_at) == (20 * MINUTE, SLOT)
    assert summary.to_json()["p95_duration_s"] == 1140


def test_an_empty_history_says_so() -> None:
    """Without slots there is no rate and no duration."""
    assert set(summarize([]).to_json().values()) == {0, None}


def test_a_record_shows_what_was_late() -> None:
    """Lateness counts from the slot to the first attempt, the duration is that of the last, or so far."""
    late = record_of(run(State.RUNNING, first_started_at=SLOT + 61 * MINUTE, started_at=NOW - 5 * MINUTE), now=NOW)
    assert (late.is_late, late.late_by, late.duration) == (True, 61 * MINUTE, 5 * MINUTE)
    retried = record_of(run(State.QUEUED, first_started_at=SLOT, started_at=SLOT), now=NOW)
    assert (retried.is_late, retried.duration) == (False, None)
    with pytest.raises(ValueError, match="belongs to no slot"):
        record_of(run(State.QUEUED, slot_at=None), now=NOW)
