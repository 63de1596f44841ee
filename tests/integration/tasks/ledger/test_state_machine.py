"""Random lives of several runs at once, on the real store: workers, crashes, stalls, operators and reconcilers."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, cast

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, text

from nightcrew.messages import RunCanary
from tasks.errors import CancelledError, LeaseLostError
from tasks.ledger.events import SIGNALS, Event
from tasks.ledger.states import State
from tasks.ledger.store import queries, runs
from tasks.ledger.store.queries import read_run
from tasks.ledger.tables import Ping, ResourceLease, RunEvent
from tasks.transactions import begin_read, begin_write
from tests.integration.tasks.ledger.lives import IDS, LIMIT, Lives

if TYPE_CHECKING:
    from tests.integration.tasks.ledger.conftest import Bench

_MANY: Final = 1_000


class Ledger(Lives):
    """Any interleaving on one database. A worker that does nothing for a while is one that was stopped."""

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

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def heartbeat(self, choice: st.DataObject) -> None:
        self.renew(self.any_worker(choice))

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
        self.take(self.any_worker(choice), resource)

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
        self.record_success(self.any_worker(choice))

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def succeed_with_effect(self, choice: st.DataObject) -> None:
        self.complete(self.any_worker(choice))

    @precondition(lambda self: self.workers)
    @rule(choice=st.data())
    def guarded_effect(self, choice: st.DataObject) -> None:
        self.guard(self.any_worker(choice))

    # What others do.

    @rule(choice=st.data())
    def call_off(self, choice: st.DataObject) -> None:
        self.cancel(self.any_run(choice))

    @rule(choice=st.data())
    def retry(self, choice: st.DataObject) -> None:
        self.restart(self.any_run(choice))

    @rule()
    def reconcile(self) -> None:
        now = self.clock()
        for run in runs.release_expired(self.engine, now=now, default_max_attempts=LIMIT):
            assert not [one for one in self.workers if one.run.id == run.id and one.valid_until > now]
            assert (run.state is State.CANCELLED) == (run.id in self.called_off)
            assert self.last_event(run.id) == (Event.RELEASED if run.state is State.QUEUED else Event(run.state))
        runs.miss_unstarted(self.engine, now=now)
        self.note_children()

    # Stories that chance alone hardly ever tells.

    @rule(choice=st.data(), act=st.sampled_from(["guard", "complete", "record_success", "renew", "error"]))
    def wake_too_late(self, choice: st.DataObject, act: str) -> None:
        """A worker sleeps through its lease, another takes the run, and the first goes on as if nothing were."""
        run_id = self.any_run(choice)
        first = self.working(run_id)
        self.clock.advance(seconds=31)
        if first is None or self.claim(run_id) is None:
            return
        if act == "error":
            self.fail(first, runs.Failure(reason="disk is full"))
        else:
            getattr(self, act)(first)

    @rule(choice=st.data(), permanent=st.booleans())
    def error_after_call_off(self, choice: st.DataObject, permanent: bool) -> None:  # noqa: FBT001
        """Work that was asked to stop fails before it has heard of it."""
        if worker := self.working(self.any_run(choice)):
            self.cancel(worker.run.id)
            self.fail(worker, runs.Failure(reason="disk is full", permanent=permanent))

    @rule(choice=st.data(), called_off=st.booleans())
    def fall_silent(self, choice: st.DataObject, called_off: bool) -> None:  # noqa: FBT001
        """A worker dies, perhaps after it was asked to stop, and a reconcile is the first to see it."""
        if worker := self.working(self.any_run(choice)):
            if called_off:
                self.cancel(worker.run.id)
            self.clock.advance(seconds=31)
            self.reconcile()

    @rule(choice=st.data())
    def work_long(self, choice: st.DataObject) -> None:
        """A worker renews what it holds for four leases, and all others want it."""
        if worker := self.working(self.any_run(choice)):
            for _ in range(6):
                self.clock.advance(seconds=20)
                self.renew(worker)
            for run_id in IDS:
                self.claim(run_id)

    @rule(choice=st.data())
    def meet_midway(self, choice: st.DataObject) -> None:
        """Two runs that work want the same thing."""
        for worker in [self.working(self.any_run(choice)), self.working(self.any_run(choice))]:
            if worker in self.workers:
                self.take(worker, "tape")

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
            assert one.lease_until == stored[one.run_id].lease_until, "a resource has another lease than its run"


def test_any_interleaving_keeps_the_promises(quick_bench: Bench) -> None:
    """Whatever workers, operators and reconcilers do in whatever order, each promise of the ledger holds after it."""
    with begin_write(quick_bench.runtime.engine) as connection:
        connection.execute(text("CREATE TABLE effects (run_id TEXT, fence INTEGER)"))
    asked = settings().max_examples
    # The same lives each time, so that a red test is red again; the thorough profile looks at others each time.
    chosen = settings(max_examples=asked // 4, stateful_step_count=30, derandomize=asked < _MANY)
    run_state_machine_as_test(cast("type[Ledger]", lambda: Ledger(quick_bench)), settings=chosen)
