"""Backups against restic by itself and against the floor: `python -m tests.benchmarks.backups --help`.

The database is that of `backups_data.py`. Each way is run once; both of each pair see the same files, one after the
other. Every point of ours is restored and compared with the source, which is not measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from rich.console import Console
from rich.table import Table

from tests.benchmarks.backups_contenders import Ours, ResticAlone, check_restore, compress_file, copy_file
from tests.benchmarks.backups_data import WHOLE_BYTES, Way, build_shop, change_shop
from tests.benchmarks.backups_measuring import Cost, cost_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_WIDTH: Final = 130
COPY: Final = "cp"
COMPRESS: Final = "zstd -3"
ALONE: Final = "restic alone: full"
OURS: Final = "ours: full"
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A ratio that was set as a goal. Missing one fails nothing."""

    ours: str
    floor: str
    what: str
    """Field of `Cost`."""
    at_most: float

    def reached(self, costs: Mapping[str, Cost]) -> float:
        """Give what came out."""
        return float(getattr(costs[self.ours], self.what) / getattr(costs[self.floor], self.what))


def changes(who: str, way: Way) -> str:
    """Name the incremental of one way of changing."""
    return f"{who}: 1 % updated ({way}) + 1 % appended"


CLAIMS: Final = (
    Claim(ours=OURS, floor=ALONE, what="cpu_s", at_most=1.25),
    *(
        Claim(ours=changes("ours", way), floor=changes("restic alone", way), what=what, at_most=at_most)
        for way in get_args(Way)
        for what, at_most in (("stored_bytes", 1 / 5), ("cpu_s", 1 / 3))
    ),
)


def measure_backups(size_bytes: int, tell: Callable[[str], None]) -> dict[str, Cost]:
    """Measure each way once.

    Raises:
        WrongCountError: what was restored is not what was backed up.
    """
    with _directory() as directory:
        tell(f"building a database of {size_bytes / _MB:.0f} MB")
        states = _build(directory, size_bytes)
        costs = _floors(directory, states["full"]) | _restic_alone(directory, states) | _ours(directory, states)
    for name, cost in costs.items():
        tell(f"{name}: {cost.cpu_s:.2f} s of CPU")
    return costs


def costs_table(costs: Mapping[str, Cost], size_bytes: int) -> Table:
    """Show what each way costs."""
    table = Table(
        title=f"Backups of a {size_bytes / _MB:.0f} MB database; all restored, all equal", title_justify="left"
    )
    for name in ("", "CPU s", "wall s", "stored MB"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, cost in costs.items():
        table.add_row(name, f"{cost.cpu_s:.2f}", f"{cost.wall_s:.2f}", f"{cost.stored_bytes / _MB:.1f}")
    return table


def claims_table(costs: Mapping[str, Cost]) -> Table:
    """Show what was aimed for and reached."""
    table = Table(title="Aims: ours / restic alone", title_justify="left")
    for name in ("", "of", "at most", "reached", "met"):
        table.add_column(name, justify="right" if name in {"at most", "reached"} else "left", no_wrap=True)
    for claim in CLAIMS:
        reached = claim.reached(costs)
        met = "yes" if reached <= claim.at_most else "no"
        what = "CPU" if claim.what == "cpu_s" else "stored"
        table.add_row(claim.ours, what, f"{claim.at_most:.2f}", f"{reached:.2f}", met)
    return table


def _build(directory: Path, size_bytes: int) -> dict[str, Path]:
    base = build_shop(directory / "base.db", size_bytes=size_bytes)
    states = {"full": base.path}
    for way in get_args(Way):
        states[way] = directory / f"{way}.db"
        shutil.copyfile(base.path, states[way])
        change_shop(base.at(states[way]), way)
    return states


def _floors(directory: Path, source: Path) -> dict[str, Cost]:
    costs = {}
    for name, way in ((COPY, copy_file), (COMPRESS, compress_file)):
        to = directory / "floor"
        costs[name], _ = cost_of(partial(way, source, to), to)
        to.unlink()
    return costs


def _restic_alone(directory: Path, states: Mapping[str, Path]) -> dict[str, Cost]:
    alone = ResticAlone(directory / "alone")
    cost, _ = cost_of(partial(alone.put, states["full"]), alone.repository)
    costs = {ALONE: cost}
    for way in get_args(Way):
        fork = alone.fork(way)
        costs[changes("restic alone", way)], _ = cost_of(partial(fork.put, states[way]), fork.repository)
    return costs


def _ours(directory: Path, states: Mapping[str, Path]) -> dict[str, Cost]:
    ours = Ours(directory / "ours")
    cost, full = cost_of(partial(ours.put, states["full"]), ours.repository)
    costs = {OURS: cost}
    check_restore(states["full"], full, to=directory / "restored")
    for way in get_args(Way):
        fork = ours.fork(way)
        put = partial(fork.put, states[way], full)
        costs[changes("ours", way)], link = cost_of(put, fork.repository)
        check_restore(states[way], full, link, to=directory / "restored")
    return costs


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nightcrew-bench-") as name:
        yield Path(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure backups alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backups", description=main.__doc__)
    parser.add_argument(
        "--mb", type=int, default=WHOLE_BYTES // _MB, help="size of the database (default: %(default)s)"
    )
    size_bytes = parser.parse_args(arguments).mb * _MB
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    costs = measure_backups(size_bytes, lambda line: console.print(line, style="dim", highlight=False))
    console.print(costs_table(costs, size_bytes), claims_table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
