"""An app that counts, to be run in a process of its own: `python -m tests.chaos.producing --help`.

It counts as far as its board allows, and ends in order when it has made all its calls.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from nightcrew import Nightcrew
from nightcrew.errors import FlushError
from tests.chaos.board import Board
from tests.chaos.uses import event_hour, uses
from tests.support.waiting import pause

# Short, so that something is on its way at any moment.
_FLUSH_INTERVAL_S = 0.05
_CALLS_AT_ONCE = 100
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the app is to do."""

    url: str
    board: Path
    seed: int
    calls: int
    calls_per_s: int
    flush_every: int
    """Calls between two `flush()`; 0 leaves it to the background."""
    spool: Path | None


def count(task: Task, crew: Nightcrew, board: Board) -> None:
    """Count use after use as far as the board allows, and note each step on the board."""
    started_at, pace = datetime.now(UTC), Pace(task.calls_per_s)
    for number, use in enumerate(islice(uses(task.seed), task.calls), start=1):
        if number % _CALLS_AT_ONCE == 0 or number > board.allowed:
            pace.keep(number)
            while number > board.allowed:
                pause(0.002)
        board.begun = number
        at = event_hour(started_at, use)
        crew.usage.increment(use.key, context=use.context, accepted=use.accepted, amount=use.amount, at=at)
        board.returned = number
        if task.flush_every and number % task.flush_every == 0:
            flush(crew)
            board.flushed = number


def flush(crew: Nightcrew) -> None:
    """Flush as an app does that wants to be sure: again, until it is through."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return crew.usage.flush()
        except FlushError:
            if time.monotonic() > deadline:
                raise


class Pace:
    """Spreads calls over time, as an app under load does."""

    def __init__(self, calls_per_s: int) -> None:
        self._calls_per_s = calls_per_s
        self._began_s = time.monotonic()

    def keep(self, calls: int) -> None:
        """Wait until so many calls are due; time that was lost elsewhere is not made up for."""
        ahead_s = self._began_s + calls / self._calls_per_s - time.monotonic()
        if ahead_s > 0:
            pause(ahead_s)
        else:
            self._began_s -= ahead_s


def main() -> None:
    """Do the task of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--calls-per-s", type=int, required=True)
    parser.add_argument("--flush-every", type=int, default=0)
    parser.add_argument("--spool", type=Path)
    task = Task(**vars(parser.parse_args()))
    with Board(task.board) as board:
        crew = Nightcrew(task.url, flush_interval_s=_FLUSH_INTERVAL_S, spool=task.spool)
        count(task, crew, board)
        flush(crew)
        board.flushed = task.calls
        crew.close()


if __name__ == "__main__":
    main()
