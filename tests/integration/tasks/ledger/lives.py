"""A few runs, the workers that have them, and what each of them may do: the parts of the random lives."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import select, text

from tasks.errors import LeaseLostError, ResourceBusyError
from tasks.ledger.attempts import RunAttempt
from tasks.ledger.events import Event
from tasks.ledger.states import OUTCOMES, TRANSITIONS, State, decide_retry
from tasks.ledger.store import queries, runs
from tasks.ledger.store.cancelling import cancel
from tasks.ledger.tables import RunEvent
from tasks.runtime import LedgerOptions
from tasks.transactions import begin_read, begin_write
from tests.integration.tasks.ledger.conftest import START

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from tasks.ledger.runs import Run, WantedRun
    from tests.integration.tasks.ledger.conftest import Bench

LEASE: Final = timedelta(seconds=30)
LIMIT: Final = 3
IDS: Final = tuple(f"01931f2e-5f6a-7abc-8def-00000000000{number}" for number in range(5))
EXCLUSIVE: Final = {IDS[0]: ("vault",), IDS[1]: ("vault",), IDS[2]: ("disk", "vault"), IDS[3]: ()}
"""The first two are of one kind and the third of another: all three overlap. The others need nothing."""

TABLES: Final = ("effects", "pings", "resource_leases", "run_events", "job_runs")


@dataclass(eq=False)
class Worker:
    """What one worker believes: the claim it got, and until when it may rely on it."""

    attempt: RunAttempt
    run: Run
    valid_until: datetime
    resources: set[str] = field(default_factory=set)


class Lives(RuleBasedStateMachine):
    """The database, the clock, and what is expected of both after each step."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.clock = bench.clock
        self.clock.now = START
        self.engine = bench.runtime.engine
        self.runtime = replace(bench.runtime, ledger=LedgerOptions(lease=LEASE, max_attempts=LIMIT))
        self.ids = list(IDS)
        self.workers: list[Worker] = []
        self.called_off: set[str] = set()
        self.successes: dict[str, int] = defaultdict(int)
        self.effects: dict[str, int] = defaultdict(int)
        with begin_write(self.engine) as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608  the names above
        wanted = [self.wanted(run_id) for run_id in IDS]
        runs.insert(self.engine, wanted, now=START, republish_after=timedelta(0))

    def wanted(self, run_id: str) -> WantedRun:
        """Let the first be a watched slot, and the fourth one that may not begin after a minute."""
        found = replace(self.bench.wanted(IDS[0]), id=run_id)
        if run_id == IDS[0]:
            return replace(found, entry="nightly", slot_at=START, late_after=START, watched=True)
        return replace(found, start_before=START + timedelta(minutes=1)) if run_id == IDS[3] else found

    def stored(self, run_id: str) -> Run:
        found = queries.by_id(self.engine, run_id)
        assert found is not None
        return found

    def any_worker(self, choice: st.DataObject) -> Worker:
        return choice.draw(st.sampled_from(self.workers))

    def any_run(self, choice: st.DataObject) -> str:
        return choice.draw(st.sampled_from(self.ids))

    def claim(self, run_id: str) -> Worker | None:
        before = self.stored(run_id)
        claim = runs.claim(
            self.engine,
            self.wanted(run_id),
            now=self.clock(),
            worker=f"worker-{len(self.workers)}",
            lease=LEASE,
            max_attempts=LIMIT,
            exclusive=EXCLUSIVE.get(run_id, ()),
        )
        if claim.taken:
            assert claim.run is not None
            assert run_id not in self.called_off, "a run that was called off began again"
            assert (claim.run.attempt, claim.run.fence) == (before.attempt + 1, before.fence + 1)
            assert claim.run.first_started_at == before.first_started_at or before.first_started_at is None
            attempt = RunAttempt(claim.run, self.runtime, fences=claim.fences)
            resources = set(EXCLUSIVE.get(run_id, ()))
            self.workers.append(Worker(attempt, claim.run, self.clock() + LEASE, resources=resources))
            return self.workers[-1]
        if not claim.ended:
            assert self.stored(run_id).attempt == before.attempt, "an attempt counted that did not begin"
        return None

    def renew(self, worker: Worker) -> None:
        if worker.attempt._renew():
            worker.valid_until = self.clock() + LEASE
        else:
            assert worker.valid_until <= self.clock(), "a valid lease was lost"

    def take(self, worker: Worker, resource: str) -> None:
        try:
            worker.attempt.take(resource)
        except ResourceBusyError as error:
            self.fail(worker, runs.Failure(reason=str(error), busy=True))
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
        else:
            worker.resources.add(resource)

    def record_success(self, worker: Worker) -> None:
        ended = runs.succeed(self.engine, worker.run, result="done", now=self.clock())
        assert ended is not None or worker.valid_until <= self.clock()
        if ended is not None:
            assert ended.fence == worker.run.fence, "an outcome without the fence"
            self.note_success(worker)
        self.workers.remove(worker)

    def complete(self, worker: Worker) -> None:
        try:
            with begin_write(self.engine) as connection:
                self.write_effect(connection, worker)
                worker.attempt.complete_in(connection, "done")
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
        else:
            self.effects[worker.run.id] += 1
            self.note_success(worker)
        self.workers.remove(worker)

    def guard(self, worker: Worker) -> None:
        try:
            with begin_write(self.engine) as connection:
                self.write_effect(connection, worker)
                worker.attempt.guard(connection)
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
        else:
            self.effects[worker.run.id] += 1
            worker.valid_until = self.clock() + LEASE
            stored = self.stored(worker.run.id)
            assert (stored.state, stored.fence) == (State.RUNNING, worker.run.fence), "an effect without the fence"

    def cancel(self, run_id: str) -> None:
        done = cancel(self.engine, run_id, reason="not needed", by="operator", now=self.clock())
        assert (done.decision.action in {"cancel", "request"}) == bool(done.changed)
        self.called_off |= {run.id for run in done.changed}

    def restart(self, run_id: str) -> None:
        run = self.stored(run_id)
        if decide_retry(run).yes:
            assert runs.restart(self.engine, run, now=self.clock()) is not None
            self.called_off.discard(run.id)

    def working(self, run_id: str) -> Worker | None:
        """Bring a run into the hands of a worker that lives, if it can be brought there."""
        for worker in self.workers:
            if worker.run.id == run_id and worker.valid_until > self.clock():
                return worker
        self.restart(run_id)
        return self.claim(run_id)

    def check_holders(self) -> None:
        valid = [worker for worker in self.workers if worker.valid_until > self.clock()]
        held = [name for worker in valid for name in [worker.run.id, *worker.resources]]
        assert len(held) == len(set(held)), "two valid leases on one thing"
        fences = [(worker.run.id, worker.run.fence) for worker in self.workers]
        assert len(fences) == len(set(fences)), "two holders of a fence"

    def check_timeline(self, run: Run, timeline: list[Any]) -> None:
        assert run.attempt <= LIMIT
        assert [one.revision for one in timeline] == list(range(1, run.revision + 1)), "a change without its event"
        assert (timeline[0].event, timeline[-1].state) == (Event.QUEUED, run.state)
        for before, after in pairwise(timeline):
            assert after.state in TRANSITIONS[State(before.state)]
            assert (before.state in OUTCOMES) == (after.event == Event.RESTARTED), "an outcome was not final"
        ended_well = sum(one.event == Event.SUCCEEDED for one in timeline)
        assert ended_well == self.successes[run.id]
        assert ended_well <= 1, "one run succeeded twice"

    def fail(self, worker: Worker, failure: runs.Failure) -> None:
        again = self.clock() + timedelta(seconds=1)
        failed = runs.fail(self.engine, worker.run, failure, now=self.clock(), published_at=None, republish_at=again)
        assert failed is not None or worker.valid_until <= self.clock()
        if failed is not None and worker.run.id in self.called_off:
            assert failed.state in {State.CANCELLED, State.FAILED}, "a run that was called off is tried again"
        if failed is not None and failed.state is State.QUEUED:
            assert failed.attempt == worker.run.attempt - failure.busy, "an attempt counted that could not work"
        self.workers.remove(worker)
        self.note_children()

    def write_effect(self, connection: Connection, worker: Worker) -> None:
        effect = {"run_id": worker.run.id, "fence": worker.run.fence}
        connection.execute(text("INSERT INTO effects VALUES (:run_id, :fence)"), effect)

    def note_success(self, worker: Worker) -> None:
        self.successes[worker.run.id] += 1
        self.called_off.discard(worker.run.id)
        worker.valid_until = self.clock()

    def last_event(self, run_id: str) -> str:
        newest = select(RunEvent.event).where(RunEvent.run_id == run_id).order_by(RunEvent.revision.desc()).limit(1)
        with begin_read(self.engine) as connection:
            return connection.scalars(newest).one()

    def note_children(self) -> None:
        """A run that ends as cancelled asks the children that work to stop."""
        stored = [self.stored(run_id) for run_id in self.ids]
        self.called_off |= {run.id for run in stored if run.state is State.RUNNING and run.cancel_requested_at}
