"""The phases of a job, as somebody sees them who watches it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.phases import Phases
from tasks.errors import CancelledError


class Watcher:
    """Keeps what it is told, and calls the work off once it has heard enough."""

    def __init__(self, *, patience: int = 10_000) -> None:
        self.heard: list[tuple[float, str]] = []
        self._patience = patience

    def report(self, share: float, text: str = "") -> None:
        self.heard.append((share, text))
        if len(self.heard) > self._patience:
            msg = "called off"
            raise CancelledError(msg)


class Stopwatch:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_watcher_reads_phase_step_share_and_eta() -> None:
    """The line names the phase, and the step where it has another name."""
    watcher, clock = Watcher(), Stopwatch()
    phases = Phases(watcher, {"capture database": 3.0, "store": 1.0}, clock)
    with phases.phase("capture database") as progress:
        for second in range(1, 5):
            clock.now_s = float(second)
            progress("copy", second * 100, 850)
    assert watcher.heard[-1][1] == "capture database: copy 47 % of 850 B, eta 4 s"
    with phases.phase("store") as progress:
        progress("store", 10, None)
    assert watcher.heard[-1] == (0.75, "store 10 B")


def test_each_phase_is_timed() -> None:
    """A phase that is entered twice took both times, and one that failed took its time as well."""
    clock = Stopwatch()
    phases = Phases(Watcher(), {}, clock)
    for _ in range(2):
        with phases.phase("copy"):
            clock.now_s += 1.5

    def fail() -> None:
        with phases.phase("check"):
            clock.now_s += 0.25
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert phases.seconds == {"copy": 3.0, "check": 0.25}


def test_progress_is_a_checkpoint() -> None:
    """What the attempt raises goes through whoever works."""
    phases = Phases(Watcher(patience=2), {"copy": 1.0}, Stopwatch())

    def work() -> None:
        with phases.phase("copy") as progress:
            for done in range(100):
                progress("copy", done, 100)

    with pytest.raises(CancelledError):
        work()


def test_every_text_says_what_the_job_is_about_once_that_is_known() -> None:
    """A list of jobs shows which point is drilled, and the phase."""
    watcher = Watcher()
    phases = Phases(watcher, {"choose": 1.0, "copy": 1.0}, Stopwatch())
    with phases.phase("choose"):
        phases.about = "a1b2"
    with phases.phase("copy") as progress:
        progress("copy", 50, 100)
    assert [text for _, text in watcher.heard] == ["choose", "a1b2: copy", "a1b2: copy 50 % of 100 B"]


_steps = st.tuples(st.sampled_from("abc"), st.integers(0, 120), st.sampled_from([None, 0, 100]))


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three", "unplanned"]), st.lists(_steps, max_size=8))))
def test_the_share_never_falls_and_never_exceeds_the_whole(work: list[tuple[str, list[tuple[str, int, int]]]]) -> None:
    """Whatever steps there are, and in whichever order phases come, progress goes forward."""
    watcher = Watcher()
    phases = Phases(watcher, {"one": 1.0, "two": 5.0, "three": 2.0}, Stopwatch())
    for name, steps in work:
        with phases.phase(name) as progress:
            for step, done, total in steps:
                progress(step, done, total)
    shares = [share for share, _ in watcher.heard]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert all(earlier <= later + 1e-9 for earlier, later in pairwise(shares))
