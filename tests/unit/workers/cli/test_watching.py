"""The loop of a watch, its pace and its lines, on values."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tasks.errors import TransientError
from tasks.ledger.operations import Sight
from tasks.ledger.runs import Run
from tasks.ledger.states import State
from workers.cli.jobs.following import follow
from workers.cli.jobs.pace import Pace
from workers.cli.jobs.screens import Changes, JsonScreen, LineScreen, bars, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run(
    id="01931f2e-5f6a-7abc-8def-0123456789ab",
    kind="ledger.canary",
    queue="nightcrew.ledger",
    dedup_key=None,
    payload={},
    state=State.RUNNING,
    revision=2,
    attempt=1,
    max_attempts=4,
    fence=1,
    worker="ledger@test",
    lease_until=NOW,
    heartbeat_at=NOW,
    progress=0.42,
    progress_text="half-way",
    result=None,
    error=None,
    correlation_id="c",
    enqueued_at=NOW,
    queued_at=NOW,
    published_at=NOW,
    republish_at=NOW,
    started_at=NOW,
    finished_at=None,
    updated_at=NOW,
    first_started_at=NOW,
    parent_id=None,
    entry=None,
    slot_at=None,
    late_after=None,
    start_before=None,
    watched=False,
    cancel_requested_at=None,
    cancel_reason=None,
)
RUNNING = Sight(at=NOW, run=RUN, ahead=None, next_try_at=None)
WAITING = replace(RUNNING, run=replace(RUN, state=State.QUEUED, attempt=0, progress=None), ahead=3)
DONE = replace(RUNNING, run=replace(RUN, state=State.SUCCEEDED, revision=3, result=7))
DEAD = replace(RUNNING, run=replace(RUN, state=State.DEAD, revision=3, error="no luck"))


class Shown:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.sights: list[Sequence[Sight]] = []
        self.troubles: list[str | None] = []

    def show(self, sights: Sequence[Sight]) -> None:
        self.sights.append(sights)

    def tell_trouble(self, trouble: str | None) -> None:
        self.troubles.append(trouble)


class Looks:
    """Gives what was prepared, one answer a look."""

    def __init__(self, *answers: list[Sight] | str) -> None:
        self._answers = iter(answers)

    def __call__(self) -> list[Sight]:
        answer = next(self._answers)
        if isinstance(answer, str):
            raise TransientError(answer)
        return answer


def ended(sights: Sequence[Sight]) -> bool:
    return all(sight.run.has_ended for sight in sights)


def watch(looks: Looks, screen: Shown, *, timeout_s: float | None = None) -> list[Sight] | None:
    clock = iter(range(1_000))
    return follow(
        looks,
        screen,
        is_over=ended,
        timeout_s=timeout_s,
        monotonic=lambda: float(next(clock)),
        sleep=lambda _seconds: None,
    )


def test_a_watch_ends_with_the_last_job() -> None:
    """It gives the sights it ended with, all of which were shown."""
    screen = Shown()
    assert watch(Looks([WAITING], [RUNNING], [DONE]), screen) == [DONE]
    assert screen.sights == [[WAITING], [RUNNING], [DONE]]
    assert screen.troubles == []


def test_a_watch_outlives_database_and_broker() -> None:
    """Each trouble is told once, its end too, and the watch goes on."""
    screen = Shown()
    assert watch(Looks([RUNNING], "gone", "gone", "starting", [RUNNING], "gone", [DONE]), screen) == [DONE]
    assert screen.troubles == ["gone", "starting", None, "gone", None]


def test_a_watch_ends_in_time() -> None:
    """Also while nothing can be seen."""
    assert watch(Looks([RUNNING], [RUNNING], [RUNNING]), Shown(), timeout_s=2) is None
    assert watch(Looks("gone", "gone", "gone"), Shown(), timeout_s=2) is None


def test_pace_of_an_attempt() -> None:
    """Rate and time left are those of the attempt at hand; they are unknown until it has been seen to grow."""
    pace = Pace()
    assert (pace.per_second, pace.left(at=NOW)) == (None, None)
    pace.note(at=NOW, fence=1, share=0.1)
    assert pace.per_second is None
    pace.note(at=NOW + timedelta(seconds=5), fence=1, share=0.1)
    pace.note(at=NOW + timedelta(seconds=10), fence=1, share=0.2)
    assert pace.per_second == pytest.approx(0.01)
    assert pace.left(at=NOW + timedelta(seconds=20)) == pytest.approx(
        timedelta(seconds=70), abs=timedelta(milliseconds=1)
    )
    assert pace.left(at=NOW + timedelta(days=1)) == timedelta()
    pace.note(at=NOW + timedelta(seconds=11), fence=2, share=0.5)
    assert pace.per_second is None
    pace.note(at=NOW + timedelta(days=300), fence=2, share=0.5 + 1e-12)
    assert pace.left(at=NOW) == timedelta(days=365)


def test_a_change_is_shown_once() -> None:
    """The place in the queue alone is none; progress is one."""
    changes = Changes()
    assert changes.of([WAITING]) == [WAITING]
    assert changes.of([replace(WAITING, ahead=2)]) == []
    assert changes.of([RUNNING]) == [RUNNING]
    further = replace(RUNNING, run=replace(RUN, progress=0.5))
    assert changes.of([further]) == [further]
    assert changes.of([further]) == []


@pytest.mark.parametrize(
    ("sight", "text"),
    [
        (WAITING, "queued 3 before it"),
        (replace(WAITING, ahead=None, next_try_at=NOW), "queued next try 12:00:00Z"),
        (RUNNING, "running attempt 1 42% half-way"),
        (
            replace(RUNNING, run=replace(RUN, cancel_requested_at=NOW, cancel_reason="wrong (by ana)")),
            "running attempt 1 42% asked to stop: wrong (by ana)",
        ),
        (DONE, "succeeded attempt 1"),
        (DEAD, "dead attempt 1 no luck"),
    ],
)
def test_a_sight_in_words(sight: Sight, text: str) -> None:
    """State, attempt, progress, and what it is about."""
    assert describe(sight) == text


def test_lines_and_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each change, as text or as JSON; what was in the way goes to standard error."""
    for screen in (LineScreen(), JsonScreen()):
        screen.show([RUNNING])
        screen.tell_trouble("gone")
        screen.show([RUNNING])
        screen.show([DEAD])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == f"12:00:00Z {RUN.id} ledger.canary running attempt 1 42% half-way"
    assert [json.loads(line)["state"] for line in lines[2:]] == ["running", "dead"]
    assert shown.err.count("gone") == 2


def test_bars_fit_a_narrow_terminal() -> None:
    """Names and texts are cut, never folded, and nothing of them steers the terminal."""
    loud = replace(RUNNING, run=replace(RUN, progress_text="\x1b[2J" + "x" * 500))
    out = io.StringIO()
    table = bars([loud, WAITING, DONE], {RUN.id: Pace()}, trouble="database is away", rows=2)
    Console(file=out, width=80).print(table)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in out.getvalue()
    assert "running 1" in lines[0]
    assert "42%" in lines[0]
    assert "queued" in lines[1]
    assert "1 more" in lines[2]
