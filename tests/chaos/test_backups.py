"""Whatever strikes a backup, a pruning or a restore, at any moment: vaults stay sound, and lists true."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest

from tests.chaos.backups_blows import blows_on, mounted_disk
from tests.chaos.backups_crew import StruckCrew, struck_crew
from tests.chaos.backups_worker import OPERATIONS, PHASES, Operation
from tests.chaos.backups_workers import LOOK_S
from tests.support import wait_until
from tests.support.databases import migrate_database, opened_engine
from tests.support.postgres import PostgresServer
from tests.support.processes import short_directory
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from tests.chaos.backups_blows import Blow
    from tests.chaos.backups_workers import Worker
    from tests.support.redis import RedisServer

FULL: Final = 100
HALF: Final = 14
SHORT: Final = 6

_LOOK_EVERY: Final = 5
_PATIENCE_S: Final = 180.0
_LATEST_S: Final = 0.2
_CHANGED_ROWS: Final = 30
_GUESSED_S: Final = 1.0
_FORESEEN: Final = frozenset({"died", "succeeded", "retried", "lost", "skipped", "deferred"})
"""What may become of who is struck: never a failure that nobody would try again."""

_SERVER: Final = {"full_page_writes": "on", "wal_level": "replica", "max_slot_wal_keep_size": "2GB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one blow."""

    operation: Operation
    blow: str
    became: str
    recovered_s: float
    """From the blow until the next run of the kind had succeeded."""


@dataclass(slots=True, kw_only=True)
class Trial:
    """A crew that takes one blow after the other."""

    crew: StruckCrew
    blows: list[Blow]
    rows: list[Row] = field(default_factory=list)
    seconds: dict[Operation, float] = field(default_factory=dict)
    """How long each took when nothing came in between."""
    late: int = 0
    """Blows at workers that were through, or that did not feel them: a limit that was not reached, a lease kept."""

    def prepare(self) -> None:
        """Have something to lose: points of each kind, some of them in a second vault."""
        for operation in ("full", "incremental", "copy"):
            self._see_success(self.crew.begin(operation))

    def plan(self) -> Iterator[tuple[Operation, Blow]]:
        """Choose what is struck and how: each pair about equally often, in random order, without an end."""
        pairs = list(product(OPERATIONS, self.blows))
        while True:
            self.crew.chance.shuffle(pairs)
            yield from pairs

    def survive(self, operation: Operation, blow: Blow) -> None:
        """Strike at some moment of the work, and see that the next run of the kind makes up for it."""
        crew = self.crew
        crew.journal.change(_CHANGED_ROWS)
        wanted = crew.kept() if operation == "prune" else {point.id for point in crew.points()}
        worker = crew.begin(operation)
        self._await_moment(worker)
        if not blow.strike(worker, crew):
            self.late += 1
            self._see_success(worker)
            return
        began_s = time.monotonic()
        became = self._see_end(worker)
        assert became in _FORESEEN or operation == "restore", worker.describe()
        self._recover(worker)
        if became == "succeeded" and not blow.may_be_survived:
            self.late += 1
        else:
            took_s = time.monotonic() - began_s
            self.rows.append(Row(operation=operation, blow=blow.name, became=became, recovered_s=took_s))
        crew.workers.settle()
        crew.see_kept(wanted)
        crew.see_tidy()

    def look(self, *, is_thorough: bool = False) -> None:
        """Prune, which no stale lock may be in the way of, and see what there is."""
        crew = self.crew
        crew.hold_some()
        wanted = crew.kept()
        self._see_success(crew.begin("prune"))
        crew.see_kept(wanted)
        crew.see_sound(is_thorough=is_thorough)
        if is_thorough:
            crew.restore_all()
        else:
            crew.restore(crew.chance.choice(crew.points()), from_vault=crew.chance.random() < 1 / 2)

    def _await_moment(self, worker: Worker) -> None:
        """Let time pass until a random moment of its work: any, or one a little after a phase has begun."""
        chance, operation = self.crew.chance, worker.errand.operation
        if chance.random() < 1 / 2:
            pause(chance.uniform(0, self.seconds.get(operation, _GUESSED_S)))
            return
        phases = PHASES[operation]
        wanted = phases[chance.randrange(len(phases)) :]  # one may be left out: then the next will do
        reached = lambda: worker.is_gone or worker.phase in wanted  # noqa: E731  shorter than a function
        wait_until(reached, timeout_s=_PATIENCE_S, what=f"the phase {wanted[0]}", interval_s=LOOK_S)
        pause(chance.choice([0.0, chance.uniform(0, _LATEST_S)]))

    def _see_end(self, worker: Worker) -> str:
        """Say what became of a worker that was struck, and see that no restore came to half its end."""
        told = worker.wait()
        for rival in self.crew.rivals:
            rival.wait()
        if worker.errand.operation == "restore" and worker.errand.to.exists():
            self.crew.see_restored(worker.errand.to, worker.errand.point)
        return "died" if told is None else told.verdict

    def _recover(self, struck: Worker) -> None:
        """Do it again: as the next attempt of the run or as another one, at once or when all is at rest."""
        crew, errand = self.crew, struck.errand
        is_calm = crew.chance.random() < 1 / 2
        if is_calm:
            crew.workers.settle()
        crew.forfeit()
        is_same = not errand.run_id or (crew.chance.random() < 2 / 3 and not crew.has_ended(errand.run_id))
        worker = crew.workers.begin(errand) if is_same else crew.begin(errand.operation)
        told = worker.wait()
        if not is_calm and (told is None or told.verdict != "succeeded"):
            crew.workers.settle()  # a program of the dead was still at it
            crew.forfeit()
            worker = crew.workers.begin(worker.errand)
        self._see_success(worker)

    def _see_success(self, worker: Worker) -> None:
        operation, seconds = worker.errand.operation, self.crew.see_success(worker)
        self.seconds[operation] = (self.seconds.get(operation, seconds) + seconds) / 2


def survive(crew: StruckCrew, blows: list[Blow], *, count: int, seed: int) -> None:
    """Take so many blows, look at everything now and then, and restore whatever is listed in the end."""
    trial, began_s = Trial(crew=crew, blows=blows), time.monotonic()
    try:
        trial.prepare()
        for number, (operation, blow) in enumerate(trial.plan(), start=1):
            trial.survive(operation, blow)
            if len(trial.rows) == count:
                break
            if number % _LOOK_EVERY == 0:
                trial.look()
        trial.look(is_thorough=True)
    finally:
        print_summary(trial, seed=seed, took_s=time.monotonic() - began_s)


def print_summary(trial: Trial, *, seed: int, took_s: float) -> None:
    """Say what was survived; pytest shows it with `-s`, and when the test fails."""
    crew, names = trial.crew, [blow.name for blow in trial.blows]
    recovered: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for row in trial.rows:
        recovered[row.operation, row.blow].append(row.recovered_s)
    lines = [
        f"{crew.crew.engine.dialect.name}: nothing lost, doubled or left; repeat with NIGHTCREW_TEST_SEED={seed}",
        f"{len(trial.rows)} blows in {took_s:.0f} s, {crew.restores} restores equal",
        f"{'(count, slowest recovery)':<26}" + "".join(f"{name:>17}" for name in names),
    ]
    for operation in OPERATIONS:
        cells = [recovered[operation, name] for name in names]
        lines.append(f"{operation:<26}" + "".join(f"{_cell(took):>17}" for took in cells))
    if took := [row.recovered_s for row in trial.rows]:
        lines.append(f"recovered after {statistics.median(took):.1f} s at the median, at most {max(took):.1f} s")
    became = Counter(row.became for row in trial.rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in became.most_common())
    lines.append(f"who was struck: {told or 'nobody'}; {trial.late} blows more came too late or were not felt")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def _cell(took_s: list[float]) -> str:
    return f"{len(took_s)} · {max(took_s):.1f} s" if took_s else "-"


@contextmanager
def struck_sqlite(redis: Redis, seed: int, *, with_disk: bool) -> Iterator[tuple[StruckCrew, list[Blow]]]:
    """Give such a crew on SQLite."""
    with short_directory() as outside, ExitStack() as stack:
        url = f"sqlite:///{outside / 'nightcrew.db'}"
        migrate_database(url)
        engine = stack.enter_context(opened_engine(url))
        yield stack.enter_context(struck_on(engine, redis, outside, seed, with_disk=with_disk))


@contextmanager
def struck_on(
    engine: Engine, redis: Redis, outside: Path, seed: int, *, with_disk: bool, tools: Path | None = None
) -> Iterator[tuple[StruckCrew, list[Blow]]]:
    """Give such a crew on a database, and what may strike it."""
    with short_directory() as directory, ExitStack() as stack:
        directory.chmod(0o755)
        disk = stack.enter_context(mounted_disk(directory)) if with_disk else None
        yield stack.enter_context(struck_crew(engine, redis, directory, outside, seed, tools=tools)), blows_on(disk)


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_backups_survive_a_few_blows(redis_server: RedisServer, seed: int) -> None:
    """In short."""
    with struck_sqlite(redis_server.client(), seed, with_disk=False) as (crew, blows):
        survive(crew, blows, count=SHORT, seed=seed)


@pytest.mark.chaos
@pytest.mark.timeout(5400)
def test_backups_survive_a_hundred_blows(redis_server: RedisServer, seed: int) -> None:
    """On SQLite, which is compared byte by byte."""
    with struck_sqlite(redis_server.client(), seed, with_disk=True) as (crew, blows):
        survive(crew, blows, count=FULL, seed=seed)


@pytest.mark.chaos
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("way", ["log", "blocks"])
def test_backups_of_postgresql_survive_some_blows(way: str, redis_server: RedisServer, seed: int) -> None:
    """With both ways of taking an increment: the log since the parent, and the blocks that have changed since then."""
    options = {**_SERVER, "summarize_wal": "on" if way == "blocks" else "off"}
    with short_directory() as place, short_directory() as outside:
        for directory in (place, outside):
            directory.chmod(0o755)
        server = PostgresServer(place, options=options)
        try:
            server.start()
            url = server.url.render_as_string(hide_password=False)
            migrate_database(url)
            with (
                opened_engine(url) as engine,
                struck_on(engine, redis_server.client(), outside, seed, with_disk=True, tools=server.programs) as (
                    crew,
                    blows,
                ),
            ):
                survive(crew, blows, count=HALF, seed=seed)
        finally:
            server.close()
