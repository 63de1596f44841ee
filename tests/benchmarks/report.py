"""From results to the table, with the aims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tests.benchmarks import counting, jobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.jobs import Overhead
    from tests.benchmarks.measuring import Result
    from tests.benchmarks.memory import ProducerMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A ratio or a rate that was set as a goal. Missing one fails nothing."""

    ours: str
    floor: str | None
    """What ours is divided by; None where the goal is a rate, which holds for a quiet machine of this size only."""
    at_least: float


ADDED_P50_MS = 5.0
"""What the ledger may add to a job at the median, on SQLite."""

AIMS = (
    Aim(ours=counting.ONE_CALL, floor=counting.INCR, at_least=15),
    Aim(ours=counting.ONE_CALL, floor=counting.ONE_TASK, at_least=2_000),
    Aim(ours=counting.DIFFERENT, floor=counting.UPSERTS, at_least=0.7),
    Aim(ours=counting.DIFFERENT, floor=counting.ROWID_UPSERTS, at_least=0.7),
    Aim(ours=counting.RANDOM_ORDER, floor=counting.RANDOM_UPSERTS, at_least=0.7),
    Aim(ours=counting.ONE_CALL, floor=None, at_least=1_500_000),
    Aim(ours=counting.MANY, floor=None, at_least=5_000_000),
    Aim(ours=counting.MANY_AT_ONCE, floor=None, at_least=5_000_000),
    Aim(ours=counting.MAPPING, floor=None, at_least=5_000_000),
)


def rates_table(results: Mapping[str, Result]) -> Table:
    """Show every rate, and the ratio of our plainest way of counting to it."""
    table = Table(title="Per second, first call to last commit; every count was compared", title_justify="left")
    for name in ("", "median", "slowest", "fastest", "ours / this"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    ours = results.get(counting.ONE_CALL)
    for name, result in results.items():
        is_job = name in {jobs.CANARIES, jobs.BARE_JOBS}
        ratio = "" if ours is None or is_job else f"{ours.rate / result.rate:,.2f}"
        table.add_row(name, *(f"{rate:,.0f}" for rate in (result.rate, *result.spread)), ratio)
    return table


def aims_table(results: Mapping[str, Result]) -> Table:
    """Show what was aimed for and reached."""
    table = Table(title="Aims", title_justify="left")
    for name in ("ours", "against", "aim", "reached", "met"):
        table.add_column(name, justify="right" if name in {"aim", "reached"} else "left", no_wrap=True)
    for aim in AIMS:
        if (reached := _reached(aim, results)) is not None:
            unit = "/s" if aim.floor is None else "x"
            against = aim.floor or "the clock, quiet machine"
            met = "yes" if reached >= aim.at_least else "no"
            table.add_row(aim.ours, against, f"{aim.at_least:,}{unit}", f"{_short(reached)}{unit}", met)
    return table


def latency_table(overheads: Sequence[Overhead]) -> Table:
    """Show the latencies, and what ours adds."""
    title = f"Latency at {jobs.JOBS_PER_S} jobs/s each, ms; aim: less than {ADDED_P50_MS:g} added at the median"
    table = Table(title=title, title_justify="left")
    for name in ("", "p50", "p95", "p99", "added p50", "added p99", "jobs"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for overhead in overheads:
        added = (f"{overhead.p50_ms:+.1f}", f"{overhead.p99_ms:+.1f}")
        for latency, more in ((overhead.ours, added), (overhead.bare, ("", ""))):
            shown = (f"{milliseconds:.1f}" for milliseconds in (latency.p50_ms, latency.p95_ms, latency.p99_ms))
            table.add_row(latency.name, *shown, *more, str(latency.jobs))
    return table


def memory_table(memory: ProducerMemory, *, worker_rss_bytes: int, results: Mapping[str, Result]) -> Table:
    """Show resident memory, and what the log takes in Redis."""
    table = Table(title="Memory, MB", title_justify="left", show_header=False)
    rows = {
        "app: added by counting 10,000 keys": memory.counting - memory.before,
        "app: added after a flush (redis-py and Celery imported)": memory.closed - memory.before,
        "counting worker, resident after the run": worker_rss_bytes,
    }
    for name in (counting.ONE_CALL, counting.DIFFERENT):
        if name in results:
            samples = results[name].samples[0]
            rows[f"log in Redis per million: {name}"] = round(results[name].detail("log_bytes") / samples.count * 1e6)
    for name, size_bytes in rows.items():
        table.add_row(name, f"{size_bytes / 1e6:.2f}")
    return table


def document(facts: Mapping[str, str], results: Mapping[str, Result], overheads: Sequence[Overhead]) -> dict[str, Any]:
    """Give everything as one JSON object."""
    aims = [
        {"ours": aim.ours, "against": aim.floor, "aim": aim.at_least, "reached": _reached(aim, results)} for aim in AIMS
    ]
    return {
        "machine": dict(facts),
        "rates": {
            name: [{"per_s": sample.rate, **sample.details} for sample in result.samples]
            for name, result in results.items()
        },
        "aims": aims,
        "latency_ms": {
            latency.name: {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
            for overhead in overheads
            for latency in (overhead.ours, overhead.bare)
        },
        "added_ms": {one.ours.name: {"p50": one.p50_ms, "p99": one.p99_ms} for one in overheads},
    }


def _reached(aim: Aim, results: Mapping[str, Result]) -> float | None:
    ours, floor = results.get(aim.ours), results.get(aim.floor or aim.ours)
    if ours is None or floor is None:
        return None
    return ours.rate if aim.floor is None else ours.rate / floor.rate


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"
