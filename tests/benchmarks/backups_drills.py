"""What a drill costs beside the restore that it proves: `python -m tests.benchmarks.backups_drills --help`.

A full and an increment of the database of `backups_data.py` are restored from a real vault and looked at. The restore
is fetching, comparing hashes and putting together; the validation is everything that a drill compares after that.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from tasks.backups.drills.subjects import Subject
from tasks.backups.staging import Limits, Link
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.backups.store.drills.sqlite import SqliteExaminer
from tasks.backups.store.hashing import check_member
from tests.benchmarks.backups_contenders import Ours
from tests.benchmarks.backups_data import WHOLE_BYTES, build_shop, change_shop
from tests.benchmarks.backups_measuring import Cost, cost_of
from tests.benchmarks.measuring import WrongCountError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.backups.drills.verdicts import Check

_MB: Final = 1_000_000
_WIDTH: Final = 130
FULL: Final = "full"
INCREMENT: Final = "full + 1 increment"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillCost:
    """One drill, without its mutants."""

    restore: Cost
    validation: Cost

    @property
    def ratio(self) -> float:
        """What the validation costs of what the restore costs, in CPU seconds; the aim is below 1."""
        return self.validation.cpu_s / self.restore.cpu_s


def measure_drills(size_bytes: int, tell: Callable[[str], None]) -> dict[str, DrillCost]:
    """Measure the drill of a full, and of an increment on it.

    Raises:
        WrongCountError: a check found something else than what was captured.
    """
    with tempfile.TemporaryDirectory(prefix="nightcrew-bench-") as name:
        directory = Path(name)
        tell(f"building a database of {size_bytes / _MB:.0f} MB")
        base = build_shop(directory / "base.db", size_bytes=size_bytes)
        ours = Ours(directory / "ours")
        full = ours.put(base.path)
        changed = directory / "changed.db"
        shutil.copyfile(base.path, changed)
        change_shop(base.at(changed), "hot")
        increment = ours.put(changed, full)
        costs = {}
        for what, chain in ((FULL, [full]), (INCREMENT, [full, increment])):
            costs[what] = _measure(ours, chain, directory / "drill")
            cost = costs[what]
            tell(f"{what}: restore {cost.restore.cpu_s:.2f}, validation {cost.validation.cpu_s:.2f} s of CPU")
        return costs


def drills_table(costs: dict[str, DrillCost], size_bytes: int) -> Table:
    """Show what came out."""
    title = f"Drills of a {size_bytes / _MB:.0f} MB database: validation / restore, aim below 1"
    table = Table(title=title, title_justify="left")
    for column in ("", "restore CPU s", "validation CPU s", "ratio", "met"):
        table.add_column(column, justify="left" if column in {"", "met"} else "right", no_wrap=True)
    for what, cost in costs.items():
        cells = (f"{cost.restore.cpu_s:.2f}", f"{cost.validation.cpu_s:.2f}", f"{cost.ratio:.2f}")
        table.add_row(what, *cells, "yes" if cost.ratio < 1 else "no")
    return table


def _measure(ours: Ours, chain: Sequence[Link], room: Path) -> DrillCost:
    restored, scratch = room / "restored", room / "scratch"
    (restored / "database").mkdir(parents=True)
    scratch.mkdir()
    file = restored / "database" / "nightcrew.db"
    restore, links = cost_of(lambda: _restore(ours, chain, room / "fetched", file), room)
    subject = Subject(
        manifest=chain[-1].manifest, restored=restored, scratch=scratch, links=links, limits=Limits(nice=0)
    )
    validation, checks = cost_of(lambda: SqliteExaminer().examine(subject, _silent), room)
    shutil.rmtree(room)
    if wrong := [check for check in checks if check.differences or check.unable]:
        msg = f"the restored database is not the source: {wrong[0]}"
        raise WrongCountError(msg)
    _see_something(checks)
    return DrillCost(restore=restore, validation=validation)


def _restore(ours: Ours, chain: Sequence[Link], fetched: Path, to: Path) -> list[Link]:
    links = []
    for link in chain:
        directory = fetched / link.manifest.point
        names = [member.name for member in link.manifest.members if member.name != "database/pages"]
        ours.fetch(link.manifest, names, directory)
        for name in names:
            check_member(directory / name, link.manifest.member(name), tick=lambda _: None)
        links.append(Link(manifest=link.manifest, directory=directory))
    restore_sqlite(links, to, progress=_silent)
    return links


def _see_something(checks: Sequence[Check]) -> None:
    if sum(check.is_equal for check in checks) < 5:
        msg = f"next to nothing was compared: {[check.name for check in checks if check.is_equal]}"
        raise WrongCountError(msg)


def _silent(phase: str, done: int, total: int | None = None) -> None:
    """Show nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure drills alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backups_drills", description=main.__doc__)
    parser.add_argument(
        "--mb", type=int, default=WHOLE_BYTES // _MB, help="size of the database (default: %(default)s)"
    )
    size_bytes = parser.parse_args(arguments).mb * _MB
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    began_at = datetime.now(UTC)
    costs = measure_drills(size_bytes, lambda line: console.print(line, style="dim", highlight=False))
    console.print(drills_table(costs, size_bytes))
    console.print(f"{(datetime.now(UTC) - began_at).total_seconds():.0f} s in all", style="dim", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
