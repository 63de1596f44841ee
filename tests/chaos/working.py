"""A crew that does deeds, and what must be true of them after everything that happened."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from nightcrew import Nightcrew, wire
from nightcrew._redis import connect
from nightcrew._uuid7 import uuid7
from nightcrew.errors import EnqueueError
from schedules.timetable import ENTRIES
from tasks.ledger.reconciliation import take_in_intents
from tasks.ledger.states import OUTCOMES, State
from tasks.ledger.tables import JobRun, ResourceLease, RunEvent
from tasks.transactions import begin_read
from tests.chaos.apps import ROOT
from tests.chaos.deeds import DEEDS, METADATA, USES
from tests.support import wait_until
from tests.support.databases import opened_engine
from tests.support.processes import short_directory
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nightcrew.messages import Message

LEASE_S: Final = 5.0
"""The shortest that the settings allow, so that a run changes hands often."""

RECONCILE_S: Final = 60.0
"""The timetable asks for a reconcile each minute."""

SETTINGS: Final = {
    "PYTHONPATH": str(ROOT),
    "NIGHTCREW_LEDGER__LEASE_S": str(LEASE_S),
    "NIGHTCREW_LEDGER__REPUBLISH_AFTER_S": "5",
}
COMMAND: Final = (sys.executable, "-m", "tests.chaos.crew_script")

_SHOWN: Final = 5
_ENQUEUE_PATIENCE_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class WorkingCrew:
    """A crew of its own in a directory of its own, and what was asked of it."""

    directory: Path
    process: CrewProcess
    engine: sa.Engine
    url: str
    """Its broker, which keeps its address over restarts."""
    asked: list[str] = field(default_factory=list)
    """Ids of the jobs that `enqueue` has accepted."""

    def ask(self, messages: Sequence[Message]) -> None:
        """Hand jobs over as an app does that wants to be sure: again under the same ids, until it is told yes."""
        ids = [str(uuid7()) for _ in messages]

        def accepted() -> bool:
            try:
                with Nightcrew(self.url, timeout_s=2.0) as app:
                    app.enqueue_many(messages, job_ids=ids)
            except EnqueueError:
                return False
            return True

        wait_until(accepted, timeout_s=_ENQUEUE_PATIENCE_S, what="the broker to take jobs", interval_s=0.1)
        self.asked += ids

    def states(self) -> dict[str, str]:
        """Give the state of every run that was asked for, as far as the ledger knows it."""
        with begin_read(self.engine) as connection:
            rows = connection.execute(sa.select(JobRun.id, JobRun.state).where(JobRun.kind.like("chaos.%")))
            return {row.id: row.state for row in rows}

    def unfinished(self) -> Counter[str]:
        """Count what has no outcome yet, by its state; `unknown` is what is not in the ledger."""
        states = self.states()
        counted = Counter(states.get(run_id, "unknown") for run_id in self.asked)
        return Counter({state: count for state, count in counted.items() if state not in OUTCOMES})

    def wait_until_done(self, *, timeout_s: float) -> None:
        """Wait until everything that was asked for has its outcome."""
        try:
            wait_until(lambda: not self.unfinished(), timeout_s=timeout_s, what="the outcomes", interval_s=0.2)
        except AssertionError as error:
            error.add_note(f"without an outcome: {dict(self.unfinished())} of {len(self.asked)}")
            raise

    def wait_until_below(self, count: int, *, timeout_s: float) -> None:
        """Wait until so few of the jobs that were asked for have no outcome."""
        what = f"fewer than {count} jobs without an outcome"
        wait_until(lambda: self.unfinished().total() < count, timeout_s=timeout_s, what=what, interval_s=0.2)

    def running(self) -> set[str]:
        """Give the runs that somebody works on."""
        with begin_read(self.engine) as connection:
            query = sa.select(JobRun.id).where(JobRun.state == State.RUNNING, JobRun.kind.like("chaos.%"))
            return set(connection.scalars(query))

    def done(self) -> int:
        """Count what was done so far, however often."""
        with begin_read(self.engine) as connection:
            deeds = connection.scalar(sa.select(sa.func.count()).select_from(DEEDS)) or 0
            return deeds + (connection.scalar(sa.select(sa.func.count()).where(USES.c.ended_ns.is_not(None))) or 0)

    def begun_after(self, run_ids: set[str], instant: datetime) -> dict[str, datetime]:
        """Give when each of the runs was begun again after an instant."""
        again = (RunEvent.run_id.in_(run_ids), RunEvent.event == "started", RunEvent.at > instant)
        query = sa.select(RunEvent.run_id, sa.func.min(RunEvent.at)).where(*again).group_by(RunEvent.run_id)
        with begin_read(self.engine) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def timeline(self, run_id: str) -> list[str]:
        """Tell what became of a run, a line for each change."""
        query = sa.select(RunEvent.at, RunEvent.event, RunEvent.worker, RunEvent.detail).where(
            RunEvent.run_id == run_id
        )
        with begin_read(self.engine) as connection:
            rows = connection.execute(query.order_by(RunEvent.revision)).all()
        return [
            f"{run_id} {at:%H:%M:%S.%f} {event} {worker or ''} {detail or ''}" for at, event, worker, detail in rows
        ]

    def attempts_beyond_the_first(self) -> tuple[int, int]:
        """Count the attempts that came to nothing, in all and of the run that had most of them."""
        beyond = JobRun.attempt - 1
        query = sa.select(sa.func.sum(beyond), sa.func.max(beyond)).where(JobRun.kind.like("chaos.%"))
        with begin_read(self.engine) as connection:
            total, most = connection.execute(query).one()
        return int(total or 0), int(most or 0)

    def waiting_intents(self) -> int:
        """Count what only the broker knows."""
        with connect(self.url, timeout_s=5) as redis:
            return int(redis.xlen(wire.INTENTS))

    def take_in_intents(self) -> None:
        """Bring what only the broker knows into the ledger, as any process of the crew may at any moment."""
        settings = load_settings(self.directory)
        runtime = build_runtime(settings, broker_url=self.url, worker_name="chaos")
        try:
            take_in_intents(replace(runtime, engine=self.engine))
        finally:
            close_runtime(runtime)

    def assert_exact(self, *, expected: Mapping[str, State] | None = None) -> None:
        """Compare what was done with what was asked for; a run not in `expected` must have succeeded."""
        states, wanted = self.states(), expected or {}
        wrong = {
            run_id: states.get(run_id) for run_id in self.asked if states.get(run_id) != wanted.get(run_id, "succeeded")
        }
        told = [line for run_id in list(wrong)[:_SHOWN] for line in self.timeline(run_id)]
        assert not wrong, "\n".join([f"{len(wrong)} runs ended otherwise: {Counter(wrong.values())}", *told])
        strangers = states.keys() - set(self.asked)
        assert not strangers, f"{len(strangers)} runs that nobody asked for: {sorted(strangers)[:_SHOWN]}"
        self._assert_done_once()
        self._assert_one_at_a_time()
        self._assert_one_outcome()
        self._assert_nothing_held()
        self._assert_slots()

    def _assert_done_once(self) -> None:
        with begin_read(self.engine) as connection:
            done = Counter(connection.scalars(sa.select(DEEDS.c.run_id)))
            done += Counter(connection.scalars(sa.select(USES.c.run_id).where(USES.c.ended_ns.is_not(None))))
            query = sa.select(JobRun.id).where(JobRun.state == State.SUCCEEDED, JobRun.kind.like("chaos.%"))
            succeeded = set(connection.scalars(query))
        doubled = {run_id: count for run_id, count in done.items() if count > 1}
        assert not doubled, f"{len(doubled)} deeds were done more than once: {dict(list(doubled.items())[:_SHOWN])}"
        assert succeeded == done.keys(), f"outcomes without a deed, or deeds without: {succeeded ^ done.keys()}"

    def _assert_one_at_a_time(self) -> None:
        with begin_read(self.engine) as connection:
            uses = connection.execute(sa.select(USES).order_by(USES.c.id)).all()
        for earlier, later in pairwise(uses):
            assert later.resource_fence > earlier.resource_fence, f"the fence did not grow: {earlier}, {later}"
            assert earlier.ended_ns is None or earlier.ended_ns <= later.began_ns, f"two at once: {earlier}, {later}"

    def _assert_one_outcome(self) -> None:
        ends = sa.func.count().filter(RunEvent.state.in_(sorted(OUTCOMES)))
        query = (
            sa.select(JobRun.id, ends, sa.func.max(RunEvent.revision) == JobRun.revision)
            .join(RunEvent, RunEvent.run_id == JobRun.id)
            .where(JobRun.kind.like("chaos.%"))
            .group_by(JobRun.id, JobRun.revision)
        )
        with begin_read(self.engine) as connection:
            rows = connection.execute(query).all()
        assert [row for row in rows if row[1] != 1] == [], "runs whose timeline has not exactly one outcome"
        assert [row for row in rows if not row[2]] == [], "runs with changes that the timeline does not show"

    def _assert_nothing_held(self) -> None:
        with begin_read(self.engine) as connection:
            held = connection.execute(sa.select(ResourceLease).where(ResourceLease.run_id.is_not(None))).all()
        assert held == [], "somebody still holds a resource"

    def _assert_slots(self) -> None:
        """Every slot between the first and the last one with a run has a run, and all but the newest an outcome."""
        now = datetime.now(UTC)
        for entry in ENTRIES:
            with begin_read(self.engine) as connection:
                seen = (JobRun.entry == entry.name, JobRun.slot_at <= now)  # a clock that ran ahead sees later ones
                query = sa.select(JobRun.slot_at, JobRun.state).where(*seen)
                rows: dict[datetime, str] = {row.slot_at: row.state for row in connection.execute(query)}
            known = sorted(rows)
            if not known:
                continue
            due = [known[0], *entry.slots_between(known[0], known[-1])]
            assert known == due, f"{entry.name}: slots without a run: {sorted(set(due) - set(known))[:_SHOWN]}"
            open_ = [slot for slot in known[:-1] if rows[slot] not in OUTCOMES]
            assert not open_, f"{entry.name}: slots without an outcome: {open_[:_SHOWN]}"


@contextmanager
def working_crew(env: Mapping[str, str] | None = None, *, database_url: str | None = None) -> Iterator[WorkingCrew]:
    """Run a crew during the block, on SQLite in its own directory or on the database named."""
    with short_directory() as directory:
        named = {} if database_url is None else {"NIGHTCREW_DATABASE__URL": database_url}
        whole = {**SETTINGS, **(env or {}), **named}
        with CrewProcess(directory, with_flower=False, env=whole, command=COMMAND) as process:
            record = process.wait_ready()
            with opened_engine(database_url or f"sqlite:///{directory / 'nightcrew.db'}") as engine:
                METADATA.create_all(engine)
                yield WorkingCrew(directory=directory, process=process, engine=engine, url=record.broker_url)
