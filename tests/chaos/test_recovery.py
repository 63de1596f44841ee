"""A crew is itself again soon after whatever strikes it, and has lost nothing and done nothing twice."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from nightcrew import Nightcrew, wire
from nightcrew._uuid7 import uuid7
from nightcrew.errors import EnqueueError
from nightcrew.messages import ReconcileLedger
from nightcrew.messages.base import SCHEMA_VERSION
from tasks.ledger.operations.letters import list_dead_letters, retry_dead_letter
from tests.chaos import clock
from tests.chaos.blows import (
    AllKilled,
    AllKilledAhead,
    BackendsKilled,
    BrokerFull,
    ClockTurned,
    DatabaseKilled,
    DiskFull,
    LineCut,
    LineSilent,
    RollingRestart,
    SupervisorKilled,
    under,
)
from tests.chaos.deeds import DoDeed, UseResource, WorkLong
from tests.chaos.proxy import Line
from tests.chaos.working import WorkingCrew, working_crew
from tests.support import wait_until
from tests.support.databases import migrate_database, opened_engine
from tests.support.postgres import PostgresCluster, own_postgres
from tests.support.processes import short_directory
from tests.support.redis import RedisServer, running_redis
from tests.unit.workers.celery.envelopes import item
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightcrew.messages import Message
    from tasks.runtime import Runtime
    from tests.chaos.blows import Blow

_DEEDS: Final = 20
_APP_TIMEOUT_S: Final = 1.0
_PATIENCE_S: Final = 90.0
_RECONCILE_EVERY_S: Final = 1.0
_JUMP: Final = timedelta(hours=2)
_RECOVERY_BOUND_S: Final = 45.0
"""Until somebody does a deed again; a supervisor starts everyone in that time, on a machine that does other things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one blow."""

    blow: str
    jobs: int
    redone: int
    recovery_s: float
    """From its end until the next deed was done."""
    settled_s: float
    """From its end until every job had its outcome."""

    def __str__(self) -> str:
        return f"{self.blow:<24}{self.jobs:>6,}{self.redone:>8,}{self.recovery_s:>12.1f}{self.settled_s:>12.1f}"


@dataclass(slots=True, kw_only=True)
class Trial:
    """A crew that takes one blow after the other."""

    crew: WorkingCrew
    rows: list[Row] = field(default_factory=list)

    def survive(self, blow: Blow) -> None:
        """Strike while jobs are at work, and compare what was done with what was asked for."""
        asked, (redone, _) = len(self.crew.asked), self.crew.attempts_beyond_the_first()
        self._have_work_begun()
        with under(blow):
            if blow.shuts_out_apps:
                self._is_refused()
            else:
                self.crew.ask(some_jobs())
        over_s = time.monotonic()
        done = self.crew.done()
        self.crew.ask(some_jobs())
        wait_until(lambda: self.crew.done() > done, timeout_s=_PATIENCE_S, what=f"a deed after: {blow.name}")
        recovery_s = time.monotonic() - over_s
        self.wait_until_done()
        row = Row(
            blow=blow.name,
            jobs=len(self.crew.asked) - asked,
            redone=self.crew.attempts_beyond_the_first()[0] - redone,
            recovery_s=recovery_s,
            settled_s=time.monotonic() - over_s,
        )
        self.rows.append(row)
        assert recovery_s < _RECOVERY_BOUND_S

    def wait_until_done(self) -> None:
        """Wait for all outcomes, with the reconcile of the minute each few seconds, and compare."""
        try:
            wait_until(self._is_done, timeout_s=_PATIENCE_S, what="the outcomes", interval_s=_RECONCILE_EVERY_S)
        except AssertionError as error:
            error.add_note(f"without an outcome: {dict(self.crew.unfinished())}")
            raise
        self.crew.assert_exact()

    def _have_work_begun(self) -> None:
        self.crew.ask([WorkLong(seconds=0.5)])
        begun = self.crew.asked[-1]
        wait_until(lambda: begun in self.crew.running(), timeout_s=_PATIENCE_S, what="a job at work")
        self.crew.ask(some_jobs())

    def _is_refused(self) -> None:
        """See an app told that its job will not run; should it run all the same, nobody has asked for it."""
        with Nightcrew(self.crew.url, timeout_s=_APP_TIMEOUT_S) as app, pytest.raises(EnqueueError) as refused:
            app.enqueue(DoDeed())
        assert refused.value.accepted == "no"

    def _is_done(self) -> bool:
        if not self.crew.unfinished():
            return True
        with Nightcrew(self.crew.url) as app, suppress(EnqueueError):  # asked again in a moment
            app.enqueue(ReconcileLedger())
        return False


def some_jobs() -> list[Message]:
    """Give a few jobs, one of which needs a resource for itself."""
    return [UseResource(), *(DoDeed() for _ in range(_DEEDS))]


@contextmanager
def trial(title: str, crew: WorkingCrew) -> Iterator[Trial]:
    """Give a crew to strike at, and show afterwards what came of it; pytest shows it with `-s`, and after a failure."""
    found = Trial(crew=crew)
    try:
        yield found
    finally:
        head = f"{title:<24}{'jobs':>6}{'redone':>8}{'recovery s':>12}{'all done s':>12}"
        sys.stdout.write("\n" + "\n".join([head, *map(str, found.rows)]) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A crew on SQLite that reaches its broker through a line, and goes by a clock that can be turned."""

    crew: WorkingCrew
    broker: RedisServer
    line: Line
    clock: clock.TurnedClock


@contextmanager
def on_the_line() -> Iterator[Surroundings]:
    """Run such a crew during the block."""
    with short_directory() as directory, running_redis(tcp=True) as broker, Line(broker.port) as line:
        turned = clock.TurnedClock(directory / "clock")
        env = {"NIGHTCREW_BROKER__URL": line.url, clock.VARIABLE: str(directory / "clock")}
        with working_crew(env) as crew:
            yield Surroundings(crew=crew, broker=broker, line=line, clock=turned)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_crew_gets_over_broker_line_disk_and_death() -> None:
    """One after the other, on SQLite; the last worker dies while its clock is two hours ahead."""
    with on_the_line() as around, trial("sqlite", around.crew) as crew:
        redis = around.broker.client()
        crew.survive(LineCut(line=around.line))
        crew.survive(LineSilent(line=around.line))
        crew.survive(BrokerFull(redis=redis))
        crew.survive(DiskFull(crew=around.crew, redis=redis))
        speak_three_forms(crew)
        crew.survive(ClockTurned(crew=around.crew, clock=around.clock, by=-_JUMP))
        crew.survive(AllKilledAhead(crew=around.crew, clock=around.clock, by=_JUMP))


@pytest.mark.timeout(600)
@pytest.mark.chaos
def test_a_crew_gets_over_the_death_of_its_database_and_its_supervisor() -> None:
    """On a PostgreSQL server that keeps what it has committed, with jobs in two processes whose clocks may differ."""
    with (
        own_postgres() as server,
        PostgresCluster(server.url).database(migrate_database) as url,
        short_directory() as directory,
    ):
        turned = clock.TurnedClock(directory / "clock")
        env = {"NIGHTCREW_LEDGER__WORKER_PROCESSES": "2", clock.VARIABLE: str(directory / "clock")}
        with working_crew(env, database_url=url) as crew, trial("postgresql", crew) as struck:
            struck.survive(DatabaseKilled(server=server))
            with opened_engine(url) as engine:
                struck.survive(BackendsKilled(engine=engine))
            struck.survive(ClockTurned(crew=crew, clock=turned, by=_JUMP))
            struck.survive(SupervisorKilled(crew=crew, shuts_out_apps=True))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_crew_gets_over_everything_again_and_again() -> None:
    """What one blow leaves behind does not make the next one worse."""
    with on_the_line() as around, trial("sqlite", around.crew) as crew:
        redis = around.broker.client()
        blows: list[Blow] = [
            LineCut(line=around.line),
            LineSilent(line=around.line),
            BrokerFull(redis=redis),
            DiskFull(crew=around.crew, redis=redis),
            AllKilled(crew=around.crew),
            AllKilledAhead(crew=around.crew, clock=around.clock, by=_JUMP),
            SupervisorKilled(crew=around.crew, shuts_out_apps=False),
            *(ClockTurned(crew=around.crew, clock=around.clock, by=by) for by in (_JUMP, -_JUMP)),
        ]
        for blow in blows * 5:
            crew.survive(blow)


def speak_three_forms(trial: Trial) -> None:
    """Hand over intents and messages of the form before, of this one with a new field, and of the next one."""
    crew = trial.crew
    too_new: list[str] = []

    def speak() -> None:
        for version in (SCHEMA_VERSION - 1, SCHEMA_VERSION):
            crew.asked += [leave_intent(crew, version), send_message(crew, version)]
        too_new.append(send_message(crew, SCHEMA_VERSION + 1))
        leave_intent(crew, SCHEMA_VERSION + 1)

    restart = RollingRestart(crew=crew, meanwhile=speak)
    trial.survive(restart)
    with operating(crew) as runtime:
        letters = {letter.job_id: letter for letter in list_dead_letters(runtime)}
        assert len(letters) == 2 * len(too_new)
        assert all("colour" in json.dumps(letter.to_json()) for letter in letters.values()), "a field was lost"
        for job_id in too_new:
            retry_dead_letter(runtime, letters[job_id].id)
    crew.asked += too_new
    trial.wait_until_done()


def leave_intent(crew: WorkingCrew, version: int) -> str:
    """Leave an intent as an app of another release does, and nothing else: its message got lost."""
    job_id = str(uuid7())
    fields: dict[Any, Any] = {
        "v": str(version),
        "id": job_id,
        "kind": DoDeed.kind,
        "payload": json.dumps({"padding": "x", "colour": "green"}),
        "dedup_key": "",
        "correlation_id": job_id,
        "enqueued_at": repr(time.time()),
    }
    with Nightcrew(crew.url) as app:
        app._intake()._redis.xadd(wire.INTENTS, fields)
    return job_id


def send_message(crew: WorkingCrew, version: int) -> str:
    """Put a message on the queue as an app of another release does, and leave no intent."""
    job_id = str(uuid7())
    headers = {"id": job_id, "root_id": job_id, wire.HEADER_SCHEMA: version, wire.HEADER_CORRELATION_ID: job_id}
    raw = item(task=DoDeed.kind, payload={"padding": "x", "colour": "green"}, headers=headers)
    with Nightcrew(crew.url) as app:
        app._intake()._redis.lpush(DoDeed.queue, raw)
    return job_id


@contextmanager
def operating(crew: WorkingCrew) -> Iterator[Runtime]:
    """Give what an operator's command works with."""
    runtime = build_runtime(load_settings(crew.directory, env={}), broker_url=crew.url, worker_name="operator")
    try:
        yield runtime
    finally:
        close_runtime(runtime)
