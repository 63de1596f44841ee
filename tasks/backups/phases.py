"""The phases of a long job: which one it is in, how far it is, how long each took.

A phase knows its share of the whole beforehand, as a guess; within it, what is done is told by whoever works. A phase
may have steps of its own, such as copying, hashing and compressing a database, whose number nobody knows beforehand:
each gets half of what is left of the phase, so that the whole never goes backwards.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.backups.eta import Pace, progress_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Teller(Protocol):
    """Who hears of it: the attempt of the run."""

    def report(self, share: float, text: str = "") -> None:
        """Show how far the work is, and pass a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOfTeller:
    """Hears of one of several equal parts of a job, and tells how far that makes the whole."""

    whole: Teller
    number: int
    """From 0."""
    of: int

    def report(self, share: float, text: str = "") -> None:
        """Show how far the whole is, and pass a checkpoint."""
        self.whole.report((self.number + share) / self.of, text)


class Phases:
    """Tells how far a job is. It is the `Progress` that whoever works in a phase is handed."""

    def __init__(
        self, teller: Teller, weights: Mapping[str, float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Plan the phases in their order, each with its guessed part of the whole; `monotonic` gives seconds."""
        self._teller = teller
        self._weights = dict(weights)
        self._monotonic = monotonic
        self._phase, self._step = "", ""
        self._before = self._within = self._step_began_at = 0.0
        self._pace = Pace.start(monotonic())
        self.about = ""
        """What the job is about, such as a point, once that is known; every text begins with it."""
        self.seconds: dict[str, float] = {}
        """How long each phase took, by its name; one that was entered twice took both times."""

    @contextmanager
    def phase(self, name: str) -> Iterator[Phases]:
        """Be in a phase during the block. One that was not planned takes no part of the whole."""
        self._phase, self._step, self._within, self._step_began_at = name, "", 0.0, 0.0
        began_s = self._monotonic()
        self._pace = Pace.start(began_s)
        self._tell(0, None)
        try:
            yield self
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + self._monotonic() - began_s, 3)
            self._before += self._weights.pop(name, 0.0)
            self._within = 0.0

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Take how far a step of the phase is, in bytes; it is a checkpoint as well.

        Raises:
            LeaseLostError: another worker may hold the run by now.
            CancelledError: somebody called the run off.
        """
        now_s = self._monotonic()
        if phase != self._step:
            self._step, self._step_began_at, self._pace = phase, self._within, Pace.start(now_s, done=done)
        self._pace = self._pace.after(done, now_s)
        if total:
            within = self._step_began_at + (1 - self._step_began_at) / 2 * min(done / total, 1.0)
            self._within = max(self._within, within)
        self._tell(done, total)

    def _tell(self, done: int, total: int | None) -> None:
        name = f"{self._phase}: {self._step}" if self._step not in {"", self._phase} else self._phase
        left_s = self._pace.left_s(total, self._monotonic()) if total else None
        text = progress_text(name, done, total, left_s=left_s)
        self._teller.report(self._share(), f"{self.about}: {text}" if self.about else text)

    def _share(self) -> float:
        """Give the share of the whole; planned phases that come later count even if they are left out."""
        whole = self._before + sum(self._weights.values())
        now = self._weights.get(self._phase, 0.0) * self._within
        return (self._before + now) / whole if whole else 0.0
