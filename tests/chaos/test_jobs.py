"""No job is lost, none is done twice, and no two use one resource at once, whoever is killed."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tasks.ledger.states import State
from tests.chaos.deeds import DoDeed, KillWorker, UseResource, WorkLong
from tests.chaos.sabotage import Saboteur
from tests.chaos.working import LEASE_S, RECONCILE_S, WorkingCrew, working_crew
from tests.support import wait_until

if TYPE_CHECKING:
    from nightcrew.messages import Message

_WORKER = "worker-ledger"
# What a supervisor, Python and Celery need to start on a machine that does other things as well.
_START_S = 30.0
_RECOVERY_BOUND_S = LEASE_S + RECONCILE_S + _START_S
_PATIENCE_S = 150.0
_EXCLUSIVE_SHARE = 0.1
_QUEUED = 40
_BACKLOG = 200
"""Jobs without an outcome up to which an app asks for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of it."""

    jobs: int
    kills: int
    longest_pause_s: float
    """Between two kills; shorter than a worker needs to start, so that some die before they are ready."""


FULL = Scale(jobs=10_000, kills=100, longest_pause_s=5.0)
HALF = Scale(jobs=3_000, kills=30, longest_pause_s=5.0)
SHORT = Scale(jobs=400, kills=6, longest_pause_s=2.0)


@dataclass(slots=True)
class Recoveries:
    """How long runs whose worker was killed waited for the next one."""

    struck: dict[str, datetime] = field(default_factory=dict)
    """By run: the last kill of a worker that had it, or of its neighbour in the same pool."""
    took_s: dict[str, float] = field(default_factory=dict)
    """By run, the longest of its waits."""

    def note_kill(self, crew: WorkingCrew) -> None:
        """Remember who was at work in the moment of a kill."""
        now = datetime.now(UTC)
        self.settle(crew)
        self.struck |= dict.fromkeys(crew.running(), now)

    def settle(self, crew: WorkingCrew) -> None:
        """Measure those that have begun again."""
        for struck_at in sorted(set(self.struck.values())):
            group = {run_id for run_id, at in self.struck.items() if at == struck_at}
            for run_id, at in crew.begun_after(group, struck_at).items():
                self.took_s[run_id] = max(self.took_s.get(run_id, 0.0), (at - struck_at).total_seconds())
                del self.struck[run_id]

    def slower_than(self, bound_s: float) -> dict[str, float]:
        """Give the runs that waited longer."""
        return {run_id: took_s for run_id, took_s in self.took_s.items() if took_s >= bound_s}


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Give the address of a database; None is the crew's own."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("pg_url"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_ten_thousand_jobs_survive_a_hundred_kills(seed: int) -> None:
    """The promise itself: nothing lost, nothing doubled, nothing at once."""
    with working_crew() as crew:
        survive(crew, FULL, seed)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_jobs_survive_kills_with_several_processes_and_writers(pg_url: str, seed: int) -> None:
    """The same on PostgreSQL, with jobs in child processes that are killed as well."""
    with working_crew({"NIGHTCREW_LEDGER__WORKER_PROCESSES": "2"}, database_url=pg_url) as crew:
        survive(crew, HALF, seed)


def test_jobs_survive_a_few_kills(database_url: str | None, seed: int) -> None:
    """The same in short."""
    processes = "1" if database_url is None else "2"
    with working_crew({"NIGHTCREW_LEDGER__WORKER_PROCESSES": processes}, database_url=database_url) as crew:
        survive(crew, SHORT, seed)


def test_a_job_that_kills_its_worker_ends_dead_and_takes_nothing_along(seed: int) -> None:
    """It is tried as often as its policy says; those beside it get through."""
    with working_crew() as crew:
        crew.ask([DoDeed() for _ in range(20)])
        crew.ask([KillWorker()])
        poison = crew.asked[-1]
        crew.ask([DoDeed() for _ in range(20)])
        crew.wait_until_done(timeout_s=_PATIENCE_S)
        crew.assert_exact(expected={poison: State.DEAD})
    assert seed


def test_a_worker_that_sleeps_longer_than_its_lease_does_nothing_when_it_wakes(seed: int) -> None:
    """Another one has taken the run over by then: the deed is done once, by one of them (SIGSTOP)."""
    with working_crew() as crew:
        saboteur = Saboteur(crew.process, random.Random(seed))
        crew.ask([WorkLong(seconds=2.0), UseResource(seconds=2.0)])
        wait_until(lambda: len(crew.running()) == 2, timeout_s=30, what="both jobs at work")
        saboteur.freeze(_WORKER, LEASE_S + 2)
        crew.wait_until_done(timeout_s=_PATIENCE_S)
        crew.assert_exact()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_what_the_ledger_knows_survives_the_loss_of_the_brokers_file(seed: int) -> None:
    """The same, with the append-only file deleted half-way: the broker comes back empty."""
    with working_crew() as crew:
        survive(crew, FULL, seed, loses_file=True)


@pytest.mark.chaos
def test_queued_jobs_survive_the_loss_of_the_brokers_file(seed: int) -> None:
    """Their messages are gone; the ledger still knows them."""
    chance = random.Random(seed)
    with working_crew() as crew:
        crew.ask(some_jobs(chance, _QUEUED))
        lose_queued_work(crew)
        crew.ask(some_jobs(chance, _QUEUED))
        crew.wait_until_done(timeout_s=_PATIENCE_S)
        crew.assert_exact()


def survive(crew: WorkingCrew, scale: Scale, seed: int, *, loses_file: bool = False) -> None:
    """Ask for jobs while members of the crew are killed, and compare what was done with what was asked for."""
    chance = random.Random(seed)
    saboteur, recoveries = Saboteur(crew.process, chance), Recoveries()
    began_s = time.monotonic()
    for number, member in enumerate(saboteur.plan(scale.kills), start=1):
        # A queue is first in, first out, also for what was killed: a long one would be measured instead of recovery.
        crew.wait_until_below(_BACKLOG, timeout_s=_PATIENCE_S)
        crew.ask(some_jobs(chance, scale.jobs * number // scale.kills - scale.jobs * (number - 1) // scale.kills))
        saboteur.watch(chance.uniform(0, scale.longest_pause_s))
        saboteur.kill(member)
        if member == _WORKER:
            recoveries.note_kill(crew)
        if loses_file and number == scale.kills // 2:
            saboteur.settle()
            lose_queued_work(crew)
    saboteur.settle()
    crew.wait_until_done(timeout_s=_PATIENCE_S)
    recoveries.settle(crew)
    crew.assert_exact()
    print_summary(crew, saboteur, recoveries, seed=seed, took_s=time.monotonic() - began_s)
    late = recoveries.slower_than(_RECOVERY_BOUND_S)
    assert not late, "\n".join([f"{late} s", *(line for run_id in late for line in crew.timeline(run_id))])


def lose_queued_work(crew: WorkingCrew) -> None:
    """Take the broker's files away and kill it, while jobs wait whose messages it alone has."""
    crew.ask([WorkLong(seconds=0.5) for _ in range(_QUEUED)])
    crew.take_in_intents()
    lose_the_file(crew)
    assert crew.unfinished()[State.QUEUED] > _QUEUED // 2, "the broker had nothing to lose"


def lose_the_file(crew: WorkingCrew) -> None:
    """Delete the append-only file under the running server, and kill it: the next one is empty."""
    for file in (crew.directory / "broker" / "appendonlydir").iterdir():
        file.unlink()
    Saboteur(crew.process, random.Random(0)).kill_whole("broker")


def some_jobs(chance: random.Random, count: int) -> list[Message]:
    """Mix jobs that need a resource for themselves with those that do not."""
    return [UseResource() if chance.random() < _EXCLUSIVE_SHARE else DoDeed() for _ in range(count)]


def print_summary(crew: WorkingCrew, saboteur: Saboteur, recoveries: Recoveries, *, seed: int, took_s: float) -> None:
    """Say what was survived; pytest shows it with `-s`, and when the test fails."""
    redone, most = crew.attempts_beyond_the_first()
    lines = [
        f"{crew.engine.dialect.name}: nothing lost or doubled; repeat with NIGHTCREW_TEST_SEED={seed}",
        f"{len(crew.asked):>8,} jobs, each done once, in {took_s:.0f} s",
        f"{redone:>8,} attempts that came to nothing, at most {most} of one job",
    ]
    for member, count in sorted(Counter(kill.member for kill in saboteur.kills).items()):
        back = sorted(kill.recovered_s for kill in saboteur.kills if kill.member == member and kill.recovered_s)
        times = f", took work again after {statistics.median(back):.1f} s (at most {back[-1]:.1f})" if back else ""
        lines.append(f"{count:>8} kills of {member}{times}")
    if took := sorted(recoveries.took_s.values()):
        bound = timedelta(seconds=LEASE_S + RECONCILE_S)
        lines.append(
            f"{len(took):>8} killed runs begun again after {statistics.median(took):.1f} s at the median, "
            f"at most {took[-1]:.1f} s (lease + reconcile: {bound.total_seconds():.0f} s)"
        )
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
