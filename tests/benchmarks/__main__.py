"""Measure everything in one run and print it: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from tests.benchmarks import counting, report
from tests.benchmarks.backups import claims_table, costs_table, measure_backups
from tests.benchmarks.backups_data import WHOLE_BYTES
from tests.benchmarks.backups_drills import drills_table, measure_drills
from tests.benchmarks.bare import running_bare_celery
from tests.benchmarks.jobs import JobBench
from tests.benchmarks.machine import machine_facts
from tests.benchmarks.measuring import WrongCountError, take_rounds
from tests.benchmarks.memory import producer_memory
from tests.benchmarks.whole_path import running_crew
from tests.support.databases import migrate_database
from tests.support.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.jobs import Overhead
    from tests.benchmarks.measuring import Contender, Result

_QUICK_SCALE: Final = 0.2
_WIDTH: Final = 130
"""Characters of a line where the output is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; exit code 1 when a count is wrong, never because something is slow."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        _run(options, console)
    except WrongCountError as error:
        console.print(f"WRONG: {error}", style="bold red", markup=False)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, half the time for the latency")
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all samples to FILE")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only rows with NAME in their name, no latency; repeatable"
    )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, console: Console) -> None:
    scale = _QUICK_SCALE if options.quick else 1.0
    with ExitStack() as stack:
        crew = stack.enter_context(running_crew())
        facts = machine_facts(crew.redis)
        console.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
        bare = stack.enter_context(running_bare_celery(crew.record.broker_url))
        bench = JobBench(crew=crew, bare=bare)
        rows = [*counting.contenders(crew, bare, scale=scale), *bench.contenders(round(2_000 * scale))]
        results = _measure(rows, options, console)
        overheads: list[Overhead] = []
        if not options.only:
            overheads = bench.overheads(10 if options.quick else 20)
            memory = producer_memory(crew.record.broker_url, round(1_000_000 * scale))
            worker_rss_bytes = crew.worker_rss_bytes()
    results |= _measure_postgresql(options, console, scale)
    _measure_backups(options, console, scale)
    console.print(report.rates_table(results), report.aims_table(results))
    if overheads:
        console.print(report.latency_table(overheads))
        console.print(report.memory_table(memory, worker_rss_bytes=worker_rss_bytes, results=results))
    if options.json:
        options.json.write_text(json.dumps(report.document(facts, results, overheads), indent=2), encoding="utf-8")


def _measure_postgresql(options: argparse.Namespace, console: Console, scale: float) -> dict[str, Result]:
    """Measure a crew on PostgreSQL, of which each commit waits for no disk (`tests.support.postgres`)."""
    if options.only and not any(name.startswith("PostgreSQL") for name in options.only):
        return {}
    with ExitStack() as stack:
        cluster = stack.enter_context(running_postgres())
        url = stack.enter_context(cluster.database(migrate_database))
        crew = stack.enter_context(running_crew({"NIGHTCREW_DATABASE__URL": url}))
        return _measure(counting.postgresql_contenders(crew, scale=scale), options, console)


def _measure_backups(options: argparse.Namespace, console: Console, scale: float) -> None:
    """Measure backups and drills, once: a round takes minutes."""
    if options.only and not any("backup" in name for name in options.only):
        return
    size_bytes = round(WHOLE_BYTES * scale)
    costs = measure_backups(size_bytes, lambda line: console.print(line, style="dim", highlight=False))
    console.print(costs_table(costs, size_bytes), claims_table(costs))
    drills = measure_drills(size_bytes, lambda line: console.print(line, style="dim", highlight=False))
    console.print(drills_table(drills, size_bytes))


def _measure(rows: Sequence[Contender], options: argparse.Namespace, console: Console) -> dict[str, Result]:
    wanted = [row for row in rows if not options.only or any(name in row.name for name in options.only)]
    return take_rounds(wanted, options.rounds, lambda line: console.print(line, style="dim", highlight=False))


if __name__ == "__main__":
    sys.exit(main())
