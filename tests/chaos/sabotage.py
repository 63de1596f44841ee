"""Who is killed, frozen and when; by a plan that a seed repeats."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from tests.support import wait_until
from tests.support.processes import is_gone
from tests.support.waiting import pause

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from workers.supervisor.crew_file import CrewRecord
    from workers.supervisor.crew_process import CrewProcess

MEMBERS = ("worker-usage", "broker", "worker-ledger", "beat")

_LOOK_EVERY_S = 0.02
_START_PATIENCE_S = 90.0


@dataclass(slots=True, kw_only=True)
class Kill:
    """One `kill -9`."""

    member: str
    pid: int
    killed_at_s: float
    """By `time.monotonic`."""
    recovered_s: float | None = None
    """Until another process of that name took work; None while there is none, or when that one was killed first."""


@dataclass(slots=True)
class Saboteur:
    """Kills members of a crew, and watches how long each takes to come back."""

    crew: CrewProcess
    chance: random.Random
    kills: list[Kill] = field(default_factory=list)

    def plan(self, count: int) -> list[str]:
        """Choose whom to kill: everyone about equally often, in random order."""
        chosen = [MEMBERS[number % len(MEMBERS)] for number in range(count)]
        self.chance.shuffle(chosen)
        return chosen

    def kill(self, member: str) -> None:
        """Kill a member as soon as it runs, ready or not; with children, one of those as often as the parent."""
        pid = self._pid_of(member)
        family = [pid, *(child.pid for child in _children(pid))]
        victim = pid if self.chance.random() < 1 / 2 else self.chance.choice(family)
        if victim == pid:
            self.kill_whole(member)
        else:
            os.kill(victim, signal.SIGKILL)
            self.kills.append(Kill(member=f"{member} child", pid=victim, killed_at_s=time.monotonic()))

    def kill_whole(self, member: str) -> None:
        """Kill the process of a member itself."""
        pid = self._pid_of(member)
        os.kill(pid, signal.SIGKILL)
        self.kills.append(Kill(member=member, pid=pid, killed_at_s=time.monotonic()))
        wait_until(lambda: is_gone(pid), timeout_s=10, what=f"the end of {member}", interval_s=0.001)

    def freeze(self, member: str, seconds: float) -> None:
        """Stop a member and its children for a while (SIGSTOP), then let them go on."""
        pid = self._pid_of(member)
        frozen = [pid, *(child.pid for child in _children(pid))]
        for one in frozen:
            _send(one, signal.SIGSTOP)
        try:
            self.watch(seconds)
        finally:
            for one in frozen:
                _send(one, signal.SIGCONT)

    def watch(self, seconds: float) -> None:
        """Let that time pass, and note who comes back meanwhile."""
        for _ in _looks(seconds):
            if (record := self.crew.record()) is not None:
                self._note(record)

    def settle(self) -> None:
        """Wait until everyone takes work again."""
        wait_until(self._all_back, timeout_s=_START_PATIENCE_S, what="everyone of the crew")

    def _all_back(self) -> bool:
        record = self.crew.record()
        assert record is not None, f"the supervisor has ended with exit code {self.crew.exit_code()}"
        self._note(record)
        return record.complete and not any(is_gone(pid) for pid in record.children.values())

    def _note(self, record: CrewRecord) -> None:
        for member in record.ready:
            last = next((kill for kill in reversed(self.kills) if kill.member == member), None)
            if last is not None and last.recovered_s is None and record.children.get(member) not in (None, last.pid):
                last.recovered_s = time.monotonic() - last.killed_at_s

    def _pid_of(self, member: str) -> int:
        def running() -> int | None:
            record = self.crew.record()
            pid = record.children.get(member) if record is not None else None
            return None if pid is None or is_gone(pid) else pid

        return wait_until(running, timeout_s=_START_PATIENCE_S, what=f"a process of {member}")


def _looks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0:
        yield
        pause(min(_LOOK_EVERY_S, left_s))


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
