"""No count is lost or doubled, whoever is killed: the promise itself, on both databases."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.chaos.apps import running_apps
from tests.chaos.counting import counting_crew
from tests.chaos.sabotage import Saboteur
from tests.support import wait_until

if TYPE_CHECKING:
    from tests.chaos.apps import App
    from tests.chaos.counting import CountingCrew
    from tests.chaos.uses import Use

# PostgreSQL has several writers, so there the partitions are drained at the same time.
_PARALLEL = {"NIGHTCREW_USAGE__PARTITIONS": "3", "NIGHTCREW_USAGE__DRAIN_WORKERS": "2"}

_APP_PATIENCE_S = 120.0
# A lost doorbell is made up for by the drain of the next minute.
_DRAIN_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of it."""

    apps: int
    calls: int
    """Of each app."""
    kills: int
    longest_pause_s: float
    """Between two kills; shorter than a worker needs to start, so that some die before they are ready."""
    freeze_s: float


FULL = Scale(apps=4, calls=250_000, kills=20, longest_pause_s=4.0, freeze_s=5.0)
SHORT = Scale(apps=2, calls=60_000, kills=6, longest_pause_s=1.2, freeze_s=1.0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def database(request: pytest.FixtureRequest) -> tuple[str | None, dict[str, str]]:
    """Give the address of a database (None: the crew's own) and the settings that go with it."""
    return (None, {}) if request.param == "sqlite" else (request.getfixturevalue("pg_url"), _PARALLEL)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_million_increments_survive_twenty_kills(database: tuple[str | None, dict[str, str]], seed: int) -> None:
    """Left to itself, the crew comes back each time and counts exactly."""
    url, settings = database
    with counting_crew(settings, database_url=url) as crew:
        saboteur = Saboteur(crew.process, random.Random(seed))
        calls = count_under_fire(crew, saboteur, FULL, seed)
        saboteur.settle()
        crew.wait_until_drained(timeout_s=_DRAIN_PATIENCE_S)
        crew.assert_counted(*calls)
        print_summary(crew, saboteur, calls, seed)


def test_increments_survive_a_few_kills(database: tuple[str | None, dict[str, str]], seed: int) -> None:
    """The same in short."""
    url, settings = database
    with counting_crew(settings, database_url=url) as crew:
        saboteur = Saboteur(crew.process, random.Random(seed))
        calls = count_under_fire(crew, saboteur, SHORT, seed)
        saboteur.kill("worker-usage")  # the next one asks for a drain when it starts: no need to wait for the minute's
        crew.wait_until_drained(timeout_s=_DRAIN_PATIENCE_S)
        crew.assert_counted(*calls)
        print_summary(crew, saboteur, calls, seed)


def count_under_fire(crew: CountingCrew, saboteur: Saboteur, scale: Scale, seed: int) -> list[list[Use]]:
    """Have apps count while members of the crew are killed and frozen; give what the apps have counted."""
    seeds = [seed + number for number in range(scale.apps)]
    duration_s = scale.kills * scale.longest_pause_s / 2
    pace = int(scale.calls / duration_s)
    with running_apps(crew.url, crew.directory, seeds=seeds, calls=scale.calls, calls_per_s=pace) as apps:
        for number, member in enumerate(saboteur.plan(scale.kills), start=1):
            allow(apps, scale.calls * number // scale.kills)
            saboteur.watch(saboteur.chance.uniform(0, scale.longest_pause_s))
            saboteur.kill(member)
            if number == scale.kills // 2:  # and some die while all is well, and the drain at work
                saboteur.settle()
                saboteur.freeze("worker-usage", scale.freeze_s)
        wait_until(
            lambda: all(not app.process.is_running() for app in apps), timeout_s=_APP_PATIENCE_S, what="the apps"
        )
        assert [app.process.returncode for app in apps] == [0] * scale.apps, [app.process.describe() for app in apps]
        return [list(app.first(scale.calls)) for app in apps]


def allow(apps: list[App], calls: int) -> None:
    for app in apps:
        app.board.allowed = calls


def print_summary(crew: CountingCrew, saboteur: Saboteur, calls: list[list[Use]], seed: int) -> None:
    """Say what was survived; pytest shows it with `-s`, and when the test fails."""
    drained = crew.drained()
    killed = Counter(kill.member for kill in saboteur.kills)
    lines = [
        f"{crew.engine.dialect.name}: every count equal; repeat with NIGHTCREW_TEST_SEED={seed}",
        f"{sum(map(len, calls)):>12,} increments from {len(calls)} apps",
        f"{crew.total():>12,} in the counts",
        f"{drained.transactions:>12,} transactions of the drain, at least",
        f"{drained.duplicates:>12,} repeated flushes passed over, at least",
    ]
    for member, count in sorted(killed.items()):
        back = sorted(kill.recovered_s for kill in saboteur.kills if kill.member == member and kill.recovered_s)
        times = f", back after {back[0]:.1f} to {back[-1]:.1f} s" if back else ""
        lines.append(f"{count:>12} kills of {member}{times}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
