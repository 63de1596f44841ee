"""What a scan of a cache finds, and what an app that asks meanwhile notices: `python -m tests.benchmarks.scanning`.

A cache of a million keys in five families. Before each scan the app is measured without one, so that each is compared
with the quiet just before it; all take turns, round by round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from tasks.ttl.prefixes import family_prefixes
from tasks.ttl.scanning import ScanOptions
from tasks.ttl.store.scan import scan_cache
from tests.benchmarks.measuring import WrongCountError
from tests.benchmarks.scanning_client import asking
from tests.benchmarks.scanning_data import FAMILIES, fill
from tests.support.redis import running_redis
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.ttl.scans import Scan
    from tests.benchmarks.scanning_data import Filled
    from tests.support.redis import RedisServer

KEYS: Final = 1_000_000
OURS: Final = "ours"
AT_MOST: Final = 1.25
"""The 99th percentile during our scan, as a multiple of that before it."""

_QUIET_S: Final = 8.0
_LONGEST_S: Final = 20.0
_WIDTH: Final = 130
_FAR: Final = 3.0
"""Half widths of an interval beyond which an estimate is a mistake and no chance."""


@dataclass(slots=True, kw_only=True)
class Disturbance:
    """What the app waited, without and with a scan, a pair for each round."""

    keys_per_s: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    before: list[tuple[float, float, float]] = field(default_factory=list)
    """The 50th, 99th and 99.9th percentile in milliseconds."""
    during: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The 99th percentile during the scan over that before it, for each round."""
        return [late[1] / early[1] for early, late in zip(self.before, self.during, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCosts:
    """All that was measured."""

    filled: Filled
    scans: Sequence[Scan]
    """Ours, of each round."""
    disturbances: Mapping[str, Disturbance]


def measure_scans(keys: int, rounds: int, tell: Callable[[str], None]) -> ScanCosts:
    """Measure our scan, the two of redis-cli, and our scan at the most that it may be told to take.

    Raises:
        WrongCountError: an estimate of ours is so far off that it is no chance.
    """
    scans: list[Scan] = []
    with running_redis(options={"appendonly": "no"}) as server:
        tell(f"filling a cache with {keys:,} keys")
        filled = fill(server.client(socket_timeout=60.0), keys)
        fastest = ScanOptions(duty=0.1, page_ms=1.0)
        contenders: dict[str, Callable[[], int]] = {
            OURS: partial(_ours, server, scans, ScanOptions()),
            "ours, 10 % of the time": partial(_ours, server, [], fastest),
            "ours, 10 %, pipelined": partial(
                _ours, server, [], ScanOptions(duty=0.1, page_ms=1.0, use_script=False, max_s=_LONGEST_S)
            ),
            "redis-cli --memkeys": partial(_redis_cli, server, "--memkeys", keys),
            "redis-cli --bigkeys": partial(_redis_cli, server, "--bigkeys", keys),
        }
        measured = {name: Disturbance() for name in contenders}
        for number in range(1, rounds + 1):
            for name, scan in contenders.items():
                _measure(server, keys, scan, measured[name])
                one = measured[name]
                tell(f"round {number}/{rounds}  {name}: {one.keys_per_s[-1]:,.0f} keys/s, p99 x {one.ratios[-1]:.2f}")
    for found in scans:
        _check(found, filled)
    return ScanCosts(filled=filled, scans=scans, disturbances=measured)


def disturbance_table(costs: ScanCosts) -> Table:
    """Show what the app noticed."""
    title = f"An app that asks 1,000 times a second beside a scan; aim: p99 of ours at most {AT_MOST:g}x"
    table = Table(title=title, title_justify="left")
    for column in ("", "keys/s", "s", "p50 ms", "p99 ms", "p99.9 ms", "p99 before", "p99 / before", "each round"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, one in costs.disturbances.items():
        median = statistics.median
        during = [median(values) for values in zip(*one.during, strict=True)]
        table.add_row(
            name,
            f"{median(one.keys_per_s):,.0f}",
            f"{median(one.seconds):.1f}",
            *(f"{value:.2f}" for value in during),
            f"{median(early[1] for early in one.before):.2f}",
            f"{median(one.ratios):.2f}",
            " ".join(f"{ratio:.2f}" for ratio in one.ratios),
        )
    return table


def accuracy_table(costs: ScanCosts) -> Table:
    """Show what our first scan found beside what is there, and how many intervals of all rounds hold it."""
    scan, filled = costs.scans[0], costs.filled
    seen, every = scan.sampled, sum(filled.keys.values())
    title = f"What {seen:,} of {every:,} keys tell; intervals hold together in 95 of 100 scans"
    table = Table(title=title, title_justify="left")
    for column in ("", "keys", "estimate", "within", "MB", "estimate ", "within ", f"hold, of {len(costs.scans)}"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for family in FAMILIES:
        found = scan.family(family)
        assert found.size_bytes is not None
        keys, size = found.keys, found.size_bytes
        table.add_row(
            family,
            f"{filled.keys[family]:,}",
            f"{keys.value:,.0f}",
            f"{keys.low:,.0f}-{keys.high:,.0f}",
            f"{filled.size_bytes[family] / 1e6:.1f}",
            f"{size.value / 1e6:.1f}",
            f"{size.low / 1e6:.1f}-{size.high / 1e6:.1f}",
            str(sum(_holds(one, filled, family) for one in costs.scans)),
        )
    return table


def footprint_line(costs: ScanCosts) -> str:
    """Say what our scan did to the server."""
    prints = [scan.footprints[0] for scan in costs.scans]
    one = prints[0]
    took = "unknown" if one.server_ms is None else f"{one.server_ms:.0f} ms"
    return (
        f"footprint of ours: {one.keys_touched:,} keys, {took} of the server in {one.seconds:.1f} s "
        f"(duty {one.duty:.1%}), {one.pages} pages, p99 {one.page_ms_p99:.2f} ms, longest {one.page_ms_max:.2f} ms; "
        f"hits added and subtracted {one.hits_added:,}"
    )


def _measure(server: RedisServer, keys: int, scan: Callable[[], int], into: Disturbance) -> None:
    with asking(server.url, keys) as before:
        pause(_QUIET_S)
    with asking(server.url, keys) as during:
        began = time.perf_counter()
        seen = scan()
        seconds = time.perf_counter() - began
    into.keys_per_s.append(seen / seconds)
    into.seconds.append(seconds)
    into.before.append((before.percentile(50), before.percentile(99), before.percentile(99.9)))
    into.during.append((during.percentile(50), during.percentile(99), during.percentile(99.9)))


def _ours(server: RedisServer, scans: list[Scan], options: ScanOptions) -> int:
    found = scan_cache(server.client(), family_prefixes(FAMILIES), options)
    scans.append(found)
    return found.sampled


def _redis_cli(server: RedisServer, flag: str, keys: int) -> int:
    """Run one of its scans; one that is not done in time is stopped, and counts for what it says of itself."""
    program = shutil.which("redis-cli")
    assert program is not None, "redis-cli is not installed"
    scan = subprocess.Popen([program, "-s", server.socket_path, flag], stdout=subprocess.PIPE, text=True)
    try:
        output, _ = scan.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        scan.kill()
        output, _ = scan.communicate()
        shares = [line[1:].partition("%")[0] for line in output.splitlines() if line.startswith("[")]
        return round(keys * float(shares[-1]) / 100) if shares else 0
    return keys


def _holds(scan: Scan, filled: Filled, family: str) -> bool:
    found = scan.family(family)
    assert found.size_bytes is not None
    keys, size = filled.keys[family], filled.size_bytes[family]
    return found.keys.low <= keys <= found.keys.high and found.size_bytes.low <= size <= found.size_bytes.high


def _check(scan: Scan, filled: Filled) -> None:
    for family in FAMILIES:
        found = scan.family(family)
        pairs = ((found.keys, filled.keys[family]), (found.size_bytes, filled.size_bytes[family]))
        for estimate, there in pairs:
            if estimate is None or abs(estimate.value - there) > _FAR * max(estimate.half_width * estimate.value, 1):
                msg = f"scan: {family} is {there:,}, and not {estimate}"
                raise WrongCountError(msg)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure scans alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scanning", description=main.__doc__)
    parser.add_argument("--keys", type=int, default=KEYS, help="keys in the cache (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    tell: Callable[[str], None] = partial(console.print, style="dim", highlight=False)
    costs = measure_scans(options.keys, options.rounds, tell)
    console.print(disturbance_table(costs), accuracy_table(costs))
    console.print(footprint_line(costs), highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
