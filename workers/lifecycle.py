"""What a worker process makes when it starts and gives back when it ends.

Each process that runs jobs gets a `Runtime` of its own: engine, Redis, publisher, timetable. Nothing in it connects
before its first use, so the parent of forked children may have one too and hands down no open socket.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import signals

from nightcrew import _redis
from tasks import runtime as runtimes
from tasks.backups.drills.disaster import PREFIX as DISASTERS
from tasks.backups.invariants import INVARIANTS as OF_BACKUPS
from tasks.backups.operations import sweep_drills
from tasks.backups.store.borders import log_borders
from tasks.backups.store.sandboxes import sweep
from tasks.errors import TransientError
from tasks.ledger.invariants import INVARIANTS as OF_LEDGER
from tasks.ledger.pressure import publish_caps
from tasks.runtime import Runtime
from tasks.ttl.invariants import INVARIANTS as OF_TTL
from tasks.usage.invariants import INVARIANTS as OF_USAGE
from tasks.usage.operations import note_proven, ring
from tasks.values.invariants import INVARIANTS as OF_VALUES
from workers.database import create_engine
from workers.pings import PingSender
from workers.progress_events import show_progress
from workers.publisher import CrewPublisher
from workers.reconcile_timer import ReconcileTimer
from workers.supervisor.notify import tell_ready

if TYPE_CHECKING:
    from workers.celery_config import WorkerKind
    from workers.settings import Settings

BROKER_TIMEOUT_S: Final = 10.0
"""For what jobs say to Redis themselves: as long as the sockets of the transport wait."""

INVARIANTS: Final = (*OF_USAGE, *OF_TTL, *OF_VALUES, *OF_LEDGER, *OF_BACKUPS)
"""What is always true of the crew's own data, of all slices."""

_log = structlog.get_logger(__name__)


def build_runtime(settings: Settings, *, broker_url: str, worker_name: str) -> Runtime:
    """Make what the jobs of this process are handed; nothing connects before its first use."""
    engine = create_engine(
        settings.database_url,
        busy_timeout_s=settings.database.busy_timeout_s,
        statement_timeout_s=settings.database.statement_timeout_s,
    )
    guard, timetable = settings.wire.guard(), settings.timetable()
    watched = frozenset(settings.schedule.ping_targets(timetable))
    return Runtime(
        engine=engine,
        redis=_redis.connect(broker_url, BROKER_TIMEOUT_S),
        publisher=CrewPublisher(broker_url, timeout_s=BROKER_TIMEOUT_S, signer=guard.signer),
        guard=guard,
        timetable=timetable,
        show_progress=show_progress,
        worker_name=worker_name,
        usage=settings.usage.options(),
        access=settings.access.options(),
        backups=settings.backups.options(settings.data_dir) if settings.backups.enabled else None,
        invariants=INVARIANTS,
        note_proven=note_proven,
        log_borders=partial(log_borders, engine),
        ledger=replace(settings.ledger.options(), watched_entries=watched),
    )


def close_runtime(runtime: Runtime) -> None:
    """Give back every connection of a runtime."""
    runtime.engine.dispose()
    runtime.redis.close()
    if isinstance(runtime.publisher, CrewPublisher):
        runtime.publisher.close()


@dataclass(kw_only=True)
class Lifecycle:
    """Ties the runtime to the signals of Celery.

    With threads the worker itself runs the jobs (`worker_init` to `worker_shutdown`), with processes its children do
    (`worker_process_init` to `worker_process_shutdown`).
    """

    settings: Settings
    broker_url: str
    worker_kind: WorkerKind | None
    _worker_name: str = ""
    _threads: list[ReconcileTimer | PingSender] = field(default_factory=list, init=False)

    def connect(self) -> None:
        """Hear the signals; Celery holds receivers weakly unless told not to."""
        signals.worker_init.connect(self._begin_worker, weak=False)
        signals.worker_process_init.connect(self._begin_child, weak=False)
        signals.worker_ready.connect(self._note_ready, weak=False)
        signals.worker_process_shutdown.connect(self._end, weak=False)
        signals.worker_shutdown.connect(self._end, weak=False)
        signals.beat_init.connect(_tell_ready, weak=False)

    def _begin_worker(self, sender: Any, **_: Any) -> None:
        self._worker_name = sender.hostname
        self._begin()

    def _begin_child(self, **_: Any) -> None:
        self._begin()
        self._start_threads()

    def _begin(self) -> None:
        try:
            runtimes.install(build_runtime(self.settings, broker_url=self.broker_url, worker_name=self._worker_name))
        except Exception as error:
            # Celery logs what a receiver raises and goes on: without a runtime there is nothing to go on to.
            _log.exception("worker.start_failed")
            raise SystemExit(1) from error

    def _note_ready(self, sender: Any, **_: Any) -> None:
        # Children have started timers of their own; the parent runs no job.
        if not type(sender.pool).__module__.endswith("prefork"):
            self._start_threads()
        if self.worker_kind == "usage":
            _ask_for_drain(runtimes.current())
        if self.worker_kind == "ledger":
            _tell_caps(runtimes.current())
        if self.worker_kind == "backups":
            sweep_drills(runtimes.current())
            sweep(self.settings.data_dir, DISASTERS)
        _tell_ready()

    def _start_threads(self) -> None:
        if self.worker_kind != "ledger" or self._threads:
            return
        runtime, schedule = runtimes.current(), self.settings.schedule
        self._threads.append(ReconcileTimer(runtime))
        if targets := schedule.ping_targets(runtime.timetable):
            self._threads.append(PingSender(runtime, targets, timeout_s=schedule.ping_timeout_s))
        for thread in self._threads:
            thread.start()

    def _end(self, **_: Any) -> None:
        while self._threads:
            self._threads.pop().stop()
        with suppress(LookupError):
            close_runtime(runtimes.current())
        runtimes.uninstall()


def _ask_for_drain(runtime: Runtime) -> None:
    """Have everything drained that was logged while no worker listened: its doorbells may have died with the last."""
    try:
        ring(runtime)
    except TransientError as error:
        _log.warning("worker.drain_postponed", reason=str(error))  # until the timetable's, within a minute


def _tell_caps(runtime: Runtime) -> None:
    """Tell apps at once what the settings say now, instead of with the next reconcile."""
    try:
        publish_caps(runtime)
    except TransientError as error:
        _log.warning("worker.caps_postponed", reason=str(error))


def _tell_ready(**_: Any) -> None:
    tell_ready()
