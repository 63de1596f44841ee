"""Random lives of several runs at once, on the real store: workers, crashes, stalls, operators and reconcilers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, text

from nightcrew.messages import RunCanary
from tasks.errors import CancelledError, LeaseLostError, ResourceBusyError
from tasks.ledger.attempts import RunAttempt
from tasks.ledger.events import SIGNALS, Event
from tasks.ledger.states import OUTCOMES, TRANSITIONS, State, decide_retry
from tasks.ledger.store import queries, runs
from tasks.ledger.store.cancelling import cancel
from tasks.ledger.store.queries import read_run
from tasks.ledger.tables import Ping, ResourceLease, RunEvent
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
IDS: Final = tuple(f"01931f2e-5f6a-7abc-8def-00000000000{number}" for number in range(4))
EXCLUSIVE: Final = {IDS[0]: ("vault",), IDS[1]: ("vault",), IDS[2]: ("disk", "vault"), IDS[3]: ()}
"""The first two are of one kind and the third of another: all three overlap."""

TABLES: Final = ("effects", "pings", "resource_leases", "run_events", "job_runs")


_MANY: Final = 1_000


@dataclass(eq=False)
class Worker:
    """What one worker believes: the claim it got, and until when it may rely on it."""

    attempt: RunAttempt
    run: Run
    valid_until: datetime
    resources: set[str] = field(default_factory=set)


class Ledger(RuleBasedStateMachine):
    """Any interleaving on one database. A worker that does nothing for a while is one that was stopped."""

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
        """Let the first be a watched slot, and the last one that may not begin after a minute."""
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

    # What happens to workers.

    @rule(choice=st.data())
    def deliver(self, choice: st.DataObject) -> None:
        """A message comes, for the first time or again."""
        self.claim(self.any_run(choice))

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def stall_and_redeliver(self, choice: st.DataObject) -> None:
        """A worker is stopped for longer than its lease, and its message comes again; it may wake up at any time."""
        worker = self.any_worker(choice)
        self.clock.advance(seconds=31)
        self.claim(worker.run.id)

    def claim(self, run_id: str) -> None:
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
            self.workers.append(
                Worker(attempt, claim.run, self.clock() + LEASE, resources=set(EXCLUSIVE.get(run_id, ())))
            )
        elif not claim.ended:
            assert self.stored(run_id).attempt == before.attempt, "an attempt counted that did not begin"

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def heartbeat(self, choice: st.DataObject) -> None:
        worker = self.any_worker(choice)
        if worker.attempt._renew():
            worker.valid_until = self.clock() + LEASE
        else:
            assert worker.valid_until <= self.clock(), "a valid lease was lost"

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def crash(self, choice: st.DataObject) -> None:
        self.workers.remove(self.any_worker(choice))

    @rule(seconds=st.sampled_from([1, 10, 31, 70]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def checkpoint(self, choice: st.DataObject) -> None:
        """The work stops where it asks: because it was called off, or because it lost the run."""
        worker = self.any_worker(choice)
        worker.attempt._looked_at_s -= 2
        stored = self.stored(worker.run.id)
        try:
            worker.attempt.checkpoint()
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
            self.workers.remove(worker)
        except CancelledError as error:
            assert stored.cancel_requested_at is not None
            self.fail(worker, runs.Failure(reason=str(error), called_off=True))
        else:
            assert (stored.state, stored.fence) == (State.RUNNING, worker.run.fence)
            assert stored.cancel_requested_at is None

    @precondition(lambda self: self.workers)
    @rule(choice=st.data(), resource=st.sampled_from(["vault", "tape"]))
    def take_midway(self, choice: st.DataObject, resource: str) -> None:
        worker = self.any_worker(choice)
        try:
            worker.attempt.take(resource)
        except ResourceBusyError as error:
            self.fail(worker, runs.Failure(reason=str(error), busy=True))
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
        else:
            worker.resources.add(resource)

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def spawn(self, choice: st.DataObject) -> None:
        worker = self.any_worker(choice)
        if worker.run.parent_id is not None:
            return
        try:
            child = worker.attempt.spawn(RunCanary(), key="only")
        except CancelledError:
            assert worker.run.id in self.called_off
        except LeaseLostError:
            assert worker.valid_until <= self.clock()
        else:
            self.called_off.discard(child)  # wanted again
            self.ids += [child] if child not in self.ids else []

    # How work ends.

    @precondition(lambda self: self.workers)
    @rule(choice=st.data(), permanent=st.booleans())
    def error(self, choice: st.DataObject, permanent: bool) -> None:  # noqa: FBT001
        self.fail(self.any_worker(choice), runs.Failure(reason="disk is full", permanent=permanent))

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def succeed(self, choice: st.DataObject) -> None:
        worker = self.any_worker(choice)
        ended = runs.succeed(self.engine, worker.run, result="done", now=self.clock())
        assert ended is not None or worker.valid_until <= self.clock()
        if ended is not None:
            assert ended.fence == worker.run.fence, "an outcome without the fence"
            self.note_success(worker)
        self.workers.remove(worker)

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def succeed_with_effect(self, choice: st.DataObject) -> None:
        worker = self.any_worker(choice)
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

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def guarded_effect(self, choice: st.DataObject) -> None:
        worker = self.any_worker(choice)
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

    # What others do.

    @rule(choice=st.data())
    def call_off(self, choice: st.DataObject) -> None:
        run_id = self.any_run(choice)
        done = cancel(self.engine, run_id, reason="not needed", by="operator", now=self.clock())
        assert (done.decision.action in {"cancel", "request"}) == bool(done.changed)
        self.called_off |= {run.id for run in done.changed}

    @rule(choice=st.data())
    def retry(self, choice: st.DataObject) -> None:
        run = self.stored(self.any_run(choice))
        if decide_retry(run).yes:
            assert runs.restart(self.engine, run, now=self.clock()) is not None
            self.called_off.discard(run.id)

    @rule()
    def reconcile(self) -> None:
        now = self.clock()
        for run in runs.release_expired(self.engine, now=now, default_max_attempts=LIMIT):
            assert not [one for one in self.workers if one.run.id == run.id and one.valid_until > now]
            assert (run.state is State.CANCELLED) == (run.id in self.called_off)
        runs.miss_unstarted(self.engine, now=now)
        self.note_children()

    # What always holds.

    @invariant()
    def every_promise_holds(self) -> None:
        self.check_holders()
        with begin_read(self.engine) as connection:
            stored = {row.id: read_run(row) for row in connection.execute(select(*queries.COLUMNS))}
            timelines: dict[str, list[Any]] = defaultdict(list)
            for event in connection.execute(select(RunEvent.__table__).order_by(RunEvent.revision)):
                timelines[event.run_id].append(event)
            told = connection.scalars(select(Ping.signal).order_by(Ping.id)).all()
            effects = dict(Counter(connection.scalars(text("SELECT run_id FROM effects"))))
            held = connection.execute(select(ResourceLease.__table__).where(ResourceLease.run_id.is_not(None))).all()
        for run_id in self.ids:
            self.check_timeline(stored[run_id], timelines[run_id])
        assert effects == dict(self.effects), "an effect without the fence"
        assert told == [SIGNALS[Event(one.event)] for one in timelines[IDS[0]] if one.event in SIGNALS]
        for one in held:
            assert (stored[one.run_id].state, stored[one.run_id].fence) == (State.RUNNING, one.run_fence), "an orphan"

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

    def note_children(self) -> None:
        """A run that ends as cancelled asks the children that work to stop."""
        stored = [self.stored(run_id) for run_id in self.ids]
        self.called_off |= {run.id for run in stored if run.state is State.RUNNING and run.cancel_requested_at}


def test_any_interleaving_keeps_the_promises(quick_bench: Bench) -> None:
    """Whatever workers, operators and reconcilers do in whatever order, each promise of the ledger holds after it."""
    with begin_write(quick_bench.runtime.engine) as connection:
        connection.execute(text("CREATE TABLE effects (run_id TEXT, fence INTEGER)"))
    asked = settings().max_examples
    # The same lives each time, so that a red test is red again; the thorough profile looks at others each time.
    chosen = settings(max_examples=asked // 2, stateful_step_count=30, derandomize=asked < _MANY)
    run_state_machine_as_test(cast("type[Ledger]", lambda: Ledger(quick_bench)), settings=chosen)
