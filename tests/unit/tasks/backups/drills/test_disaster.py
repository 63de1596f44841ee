"""The arithmetic of the disaster: it notices one count, one job and one slot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.backups.drills.disaster import (
    Journal,
    Window,
    counts_lost,
    counts_of,
    hot_key,
    jobs_lost,
    judge_disaster,
    prove_counts,
    prove_dump,
    prove_jobs,
    prove_slots,
    round_key,
    rounds_logged,
)
from tasks.backups.drills.verdicts import Verdict

_BEGAN = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def _moments(count: int) -> list[datetime]:
    return [_BEGAN + timedelta(seconds=number) for number in range(1, count + 1)]


# Ten rounds that began each second, the last of them within the round when the app was killed.
ONE = Journal(app="one", begun=_moments(10), acknowledged=_moments(9), jobs={"early": _BEGAN, "late": _moments(9)[-1]})
WHOLE = Journal(app="two", begun=_moments(4), acknowledged=_moments(4))
# The backup was asked for after the third round was acknowledged, and had ended before the seventh began.
WINDOW = Window(began_at=_BEGAN + timedelta(seconds=3.5), ended_at=_BEGAN + timedelta(seconds=6.5))


def test_with_the_log_every_acknowledged_round_is_there_once() -> None:
    """All of them, and nothing else."""
    counts = counts_of("one", 9) | counts_of("two", 4)
    check = prove_counts("counts", [ONE, WHOLE], counts, None)
    assert (check.is_equal, check.examined, check.unit) == (True, 9 + 4 + 2, "counts")
    assert str(counts_lost([ONE, WHOLE], counts)) == "0 of 52"


@pytest.mark.parametrize(
    ("key", "change"),
    [(round_key("one", 4), 1), (round_key("one", 9), -3), (hot_key("two"), -1), (hot_key("two"), 4), ("else", 1)],
)
@pytest.mark.parametrize("window", [None, WINDOW])
def test_one_count_off_is_noticed(key: str, change: int, window: Window | None) -> None:
    """A count more or less, a round missing or from nowhere, with the log and without."""
    rounds = {"one": 9, "two": 4} if window is None else {"one": 5, "two": 4}
    counts = {name: count for app, there in rounds.items() for name, count in counts_of(app, there).items()}
    assert prove_counts("counts", [ONE, WHOLE], counts, window).is_equal
    counts[key] = counts.get(key, 0) + change
    check = prove_counts("counts", [ONE, WHOLE], counts, window)
    assert (check.outcome, judge_disaster([check], "").verdict) == ("differs", Verdict.FAIL)


@pytest.mark.parametrize(("rounds", "lost"), [(3, 24), (4, 20), (6, 12)])
def test_without_the_log_what_is_newer_than_the_dump_is_lost_and_told(rounds: int, lost: int) -> None:
    """The dump is of any moment of the backup: from the round acknowledged before it to the one begun within it."""
    counts = counts_of("one", rounds)
    assert prove_counts("counts", [ONE], counts, WINDOW).is_equal
    assert (counts_lost([ONE], counts).lost, counts_lost([ONE], counts).of) == (lost, 36)


@pytest.mark.parametrize(
    ("rounds", "says"), [(2, "3 were acknowledged before 02:00:03"), (0, "3 were"), (7, "only 6 had")]
)
def test_a_dump_of_another_time_is_noticed(rounds: int, says: str) -> None:
    """An older point than the one that is meant has lost too much, and a newer one too little."""
    check = prove_counts("counts", [ONE], counts_of("one", rounds), WINDOW)
    assert any(says in difference for difference in check.differences)


@pytest.mark.parametrize(("database", "log", "due"), [(3, 5, 5), (5, 4, 5), (5, 0, 5)])
def test_the_counts_reach_as_far_as_the_dump(database: int, log: int, due: int) -> None:
    """Not a round less than database and log have together, and not one more."""
    entries = [f'[[1,"","n",{{"one.round.{number:06d}":3,"one.hot":1}}]]'.encode() for number in range(1, log + 1)]
    for rounds in (due - 1, due, due + 1):
        check = prove_dump(
            "dump", [ONE], counts_of("one", rounds), before=counts_of("one", database), logged=rounds_logged(entries)
        )
        assert check.is_equal == (rounds == due)


def test_everything_twice_is_noticed() -> None:
    """A log that was applied to what contained it already."""
    counts = {key: 2 * count for key, count in counts_of("one", 9).items()}
    check = prove_counts("counts", [ONE], counts, None)
    assert check.differences[-1] == "5 more counts differ"
    assert f"{hot_key('one')} is 18 instead of 9" in check.differences


def test_a_job_that_nobody_knows_is_noticed() -> None:
    """With the broker's files all of them are known; without, those from before its dump."""
    assert prove_jobs("jobs", [ONE], {"early", "late"}, None).is_equal
    lost = prove_jobs("jobs", [ONE], {"early"}, None)
    assert lost.differences == ["nothing is known of job late, accepted at 02:00:09"]
    without = prove_jobs("jobs", [ONE], {"early"}, WINDOW)
    assert (without.is_equal, without.examined, str(jobs_lost([ONE], {"early"}))) == (True, 1, "1 of 2")
    assert not prove_jobs("jobs", [ONE], {"late"}, WINDOW).is_equal


def test_a_slot_has_one_line() -> None:
    """None is a hole, two are a run too many."""
    slot = ("usage-drain", _BEGAN)
    assert prove_slots("slots", {slot}, [slot, ("other", _BEGAN)]).is_equal
    assert prove_slots("slots", {slot}, []).differences == ["usage-drain of 02:00 has 0 lines"]
    assert prove_slots("slots", {slot}, [slot, slot]).differences == ["usage-drain of 02:00 has 2 lines"]


def test_what_compared_nothing_has_proven_nothing() -> None:
    """No slot in all the time, or no check at all, is no pass."""
    equal, empty = prove_jobs("jobs", [ONE], {"early", "late"}, None), prove_slots("slots", set(), [])
    assert judge_disaster([equal], "all is there").reason == "all is there"
    assert judge_disaster([equal], "").verdict is Verdict.PASS
    for checks in ([equal, empty], [replace(equal, examined=0)], []):
        assert judge_disaster(checks, "").verdict is Verdict.INCONCLUSIVE
