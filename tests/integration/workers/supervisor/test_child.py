"""One process of the crew through its lives."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.integration.workers.supervisor.scripts import PATIENT, STUBBORN, script_spec
from tests.support import wait_until
from tests.support.processes import is_gone
from workers.supervisor.child import Child, ChildSpec, CrewEvent
from workers.supervisor.notify import VARIABLE, NotifySocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Followed:
    """A child, what it told, and the loop that a crew would run."""

    def __init__(self, spec: ChildSpec, notifications: NotifySocket) -> None:
        self.events: list[CrewEvent] = []
        self.child = Child(spec, listener=self.events.append)
        self._notifications = notifications

    def follow(self, until: Callable[[], bool], *, what: str) -> None:
        wait_until(lambda: self._turn() and until(), timeout_s=15, what=what)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def _turn(self) -> bool:
        self.child.tick()
        if self.child.pid in self._notifications.ready_pids():
            self.child.note_ready()
        return True


@contextmanager
def followed(directory: Path, code: str = PATIENT, *, wait_s: float = 5.0) -> Iterator[Followed]:
    with NotifySocket(directory / "notify.sock") as notifications:
        env = {VARIABLE: str(notifications.path)}
        one = Followed(script_spec(directory, code=code, env=env, wait_s=wait_s), notifications)
        try:
            yield one
        finally:
            one.child.kill()


def test_a_child_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """Started is not ready."""
    with followed(tmp_path) as one:
        one.child.start()
        assert one.child.state == "starting"
        one.follow(lambda: one.child.state == "ready", what="ready")
        assert one.kinds() == ["started", "ready"]
        assert one.child.due_in_s() is None


def test_a_killed_child_comes_back(tmp_path: Path) -> None:
    """The first restart is at once, and it is another process."""
    with followed(tmp_path) as one:
        one.child.start()
        one.follow(lambda: one.child.state == "ready", what="ready")
        first = one.child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        one.follow(lambda: one.child.state == "ready" and one.child.pid != first, what="the restart")
        assert one.child.restarts == 1
        died = one.events[2]
        assert (died.kind, died.pid, died.exit_code, died.pause_s) == ("died", first, -signal.SIGKILL, 0.0)


def test_a_child_that_keeps_dying_is_started_with_growing_pauses(tmp_path: Path) -> None:
    """The machine is not kept busy by a process that cannot run."""
    with followed(tmp_path, "raise SystemExit('no such setting')") as one:
        one.child.start()
        one.follow(lambda: one.child.deaths_before_ready == 4, what="four deaths")
        assert [event.pause_s for event in one.events if event.kind == "died"] == [0.0, 0.02, 0.04, 0.08]
        assert "no such setting" in one.child.log_tail()


def test_a_child_ends_on_the_first_signal_that_it_heeds(tmp_path: Path) -> None:
    """An orderly end is told with the time it took, and is not followed by a restart."""
    with followed(tmp_path) as one:
        one.child.start()
        one.follow(lambda: one.child.state == "ready", what="ready")
        one.child.begin_stop()
        one.follow(lambda: one.child.state == "ended", what="the end")
        assert one.kinds() == ["started", "ready", "stopping", "stopped"]
        assert one.events[-1].exit_code == -signal.SIGTERM
        assert one.child.due_in_s() is None


def test_a_child_that_heeds_nothing_is_killed_in_time(tmp_path: Path) -> None:
    """The steps are bounded, and SIGKILL follows by itself."""
    with followed(tmp_path, STUBBORN, wait_s=0.1) as one:
        one.child.start()
        one.follow(lambda: one.child.state == "ready", what="ready")
        pid = one.child.pid
        assert pid is not None
        one.child.begin_stop()
        one.follow(lambda: one.child.state == "ended", what="the end")
        assert one.events[-1].exit_code == -signal.SIGKILL
        assert is_gone(pid)


def test_a_child_between_death_and_restart_can_be_stopped(tmp_path: Path) -> None:
    """It is not started again to be ended."""
    with followed(tmp_path, "raise SystemExit(1)") as one:
        one.child.start()
        one.follow(lambda: one.child.state == "pausing", what="the pause")
        one.child.begin_stop()
        assert one.child.state == "ended"
        one.child.tick()
        assert one.child.pid is None


def test_a_child_that_cannot_be_started_for_a_while_is_tried_again(tmp_path: Path) -> None:
    """A full disk or a missing program may pass; the supervisor goes on meanwhile."""
    with followed(tmp_path) as one:
        one.child.start()
        one.follow(lambda: one.child.state == "ready", what="ready")
        log, pid = one.child.spec.log, one.child.pid
        assert pid is not None
        log.rename(tmp_path / "kept.log")
        log.mkdir()
        os.kill(pid, signal.SIGKILL)
        one.follow(lambda: one.kinds().count("unstartable") == 2, what="two vain attempts")
        assert "Is a directory" in one.events[-1].reason
        log.rmdir()
        one.follow(lambda: one.child.state == "ready", what="ready again")
        assert one.child.restarts == 1
