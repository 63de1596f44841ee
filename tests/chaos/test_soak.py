"""Under a steady load nothing of the crew grows without bound: neither Redis, nor the database, nor the processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.chaos.counting import counting_crew
from tests.chaos.soaking import KEYS, Soak, Tolerance, steady_load
from tests.support.switch import listening_switch

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1024 * 1024
_TWO_SLOTS_S = 120

_SHORT = Tolerance(share=0, amount=10 * _MIB)
"""Half a minute is warming up: only what loses some hundred kilobytes with each job stands out."""

_LONG = Tolerance(share=0, amount=3 * _MIB)
"""In the last 200 s, some thousand jobs: less than a kilobyte each.

What still grows until then has a bound: 64 compiled statements for each connection of SQLite (together some 4 MB), and
cycles of dead objects, through which Python looks once they are a quarter of the living (some 3 MB, after 7 minutes).
"""


@pytest.mark.chaos
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_crew_is_flat_for_ten_minutes(database: str, request: pytest.FixtureRequest) -> None:
    """Retention in tens of seconds, and ten minutes of load: every number is where it was."""
    url = None if database == "sqlite" else request.getfixturevalue("pg_url")
    soak(duration_s=600, keep_s=30, memory=_LONG, database_url=url)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_crew_is_flat_for_half_a_minute() -> None:
    """The same in short."""
    soak(duration_s=30, keep_s=4, memory=_SHORT)


def soak(*, duration_s: float, keep_s: int, memory: Tolerance, database_url: str | None = None) -> None:
    """Load a crew that forgets after `keep_s`, and compare the last third of the time with the second."""
    with (
        listening_switch() as switch,
        counting_crew(settings(keep_s, f"{switch.url}/{{entry}}"), database_url=database_url) as crew,
        steady_load(crew.url) as load,
    ):
        watched = Soak(crew)
        watched.watch(duration_s=duration_s, interval_s=duration_s / 120)
        sys.stdout.write(
            f"\n{crew.engine.dialect.name}: {load.increments:,} increments, {load.jobs:,} jobs, "
            f"{load.garbage:,} entries that nobody can read, {len(switch.heard)} pings\n{watched.table()}\n"
        )
        assert load.errors == []
        assert switch.heard or duration_s < _TWO_SLOTS_S
        assert load.jobs > duration_s, "the crew did hardly anything"
        assert watched.medians()["rows usage_counts"][2] == KEYS
        assert watched.growth({**TOLERANCES, "rss": memory}) == []


def settings(keep_s: int, ping_url: str) -> Mapping[str, str]:
    """Give retention in seconds where it is in months by default."""
    names = ("runs", "failed", "maintenance", "dead_letters", "retried_letters", "pings")
    return {
        **{f"NIGHTCREW_LEDGER__KEEP_{name.upper()}_S": str(keep_s) for name in names},
        "NIGHTCREW_LEDGER__MIRROR_TTL_S": str(keep_s),
        "NIGHTCREW_USAGE__LOG_CAP_BYTES": str(_MIB),
        "NIGHTCREW_SCHEDULE__PING_URL": ping_url,
    }


TOLERANCES = {
    # A log that is cut at its cap rises and falls by about half of it.
    "redis": Tolerance(share=0.2, amount=_MIB),
    "keys": Tolerance(share=0.2, amount=100),
    "stream": Tolerance(share=0.2, amount=50),
    "queue": Tolerance(share=0, amount=20),
    "rows": Tolerance(share=0.2, amount=20),
    "file": Tolerance(share=0.1, amount=_MIB),
}
