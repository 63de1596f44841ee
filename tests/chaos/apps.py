"""The processes of the apps."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.board import Board
from tests.chaos.uses import first_uses
from tests.support.processes import SpawnedProcess, spawned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.uses import Use

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One of them."""

    seed: int
    process: SpawnedProcess
    board: Board

    def first(self, calls: int) -> Iterator[Use]:
        """Give the uses of its first calls."""
        return first_uses(self.seed, calls)


@contextmanager
def running_app(
    url: str,
    directory: Path,
    *,
    seed: int,
    calls: int,
    calls_per_s: int,
    flush_every: int = 0,
    spool: Path | None = None,
) -> Iterator[App]:
    """Run an app during the block; it waits until its board allows it to count."""
    path = directory / f"board-{seed}"
    options = {"url": url, "board": path, "seed": seed, "calls": calls, "calls-per-s": calls_per_s}
    if spool is not None:
        options["spool"] = spool
    arguments = [f"--{name}={value}" for name, value in {**options, "flush-every": flush_every}.items()]
    with (
        Board(path) as board,
        spawned([sys.executable, "-m", "tests.chaos.producing", *arguments], cwd=ROOT) as process,
    ):
        yield App(seed=seed, process=process, board=board)


@contextmanager
def running_apps(url: str, directory: Path, *, seeds: list[int], calls: int, calls_per_s: int) -> Iterator[list[App]]:
    """Run several at once."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_app(url, directory, seed=seed, calls=calls, calls_per_s=calls_per_s))
            for seed in seeds
        ]
