"""The whole crew under one supervisor: start in order, watch, start again what dies, end in order.

Order of start: broker, tables of the database, workers and beat at once, Flower when they are ready.
Order of stop: beat, workers and Flower, broker.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from nightcrew._redis import mask_url
from workers.supervisor import members
from workers.supervisor.broker import EmbeddedBroker, check_reachable
from workers.supervisor.child import Child, ChildSpec, CrewEvent
from workers.supervisor.crew_file import NAME, CrewRecord, FlowerAddress, write_record
from workers.supervisor.directories import prepare_directory
from workers.supervisor.errors import ChildStartError, StopRequestedError
from workers.supervisor.flower import FlowerAccess, prepare_flower
from workers.supervisor.inbox import STOP_SIGNALS, Inbox
from workers.supervisor.lock import DirectoryLock
from workers.supervisor.notify import NotifySocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from workers.settings import Settings

_START_TIMEOUT_S: Final = 60.0
# A server reads some 50 MB of its append-only file in a second.
_BROKER_START_TIMEOUT_S: Final = 300.0
_MOST_DEATHS_AT_START: Final = 3
_RECORD_RETRY_S: Final = 1.0


class Crew:
    """A crew while the block lasts: `with Crew(settings) as crew: crew.start(); crew.run()`.

    For the main thread only: it takes over the signals, and the children live as long as the thread
    that started them. Whoever needs the main thread for something else runs the crew in a process of
    its own (`crew_process.py`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        with_flower: bool = True,
        listener: Callable[[CrewEvent], None] = lambda _event: None,
        workers: Callable[[Settings, Mapping[str, str]], list[ChildSpec]] = members.worker_specs,
    ) -> None:
        """`workers` describes everyone but broker and Flower, given the environment they need."""
        self._settings = settings
        self._with_flower = with_flower and settings.flower.enabled
        self._listener = listener
        self._workers = workers
        self._resources = ExitStack()
        self._children: dict[str, Child] = {}
        self._broker: EmbeddedBroker | None = None
        self._is_assembled = False
        self._stop_requests = 0
        self._record_is_old = False
        self._started_at = datetime.now(UTC)
        self.broker_url = ""
        self.flower: FlowerAccess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everyone; return when the broker is ready and the workers are on their way.

        Raises:
            SupervisorError: the crew cannot run; its subclasses say why.
            PermanentError: the database belongs to a newer version.
            TransientError: the database does not answer.
        """
        data_dir = prepare_directory(self._settings.data_dir)
        run = prepare_directory(data_dir / "run")
        prepare_directory(data_dir / "logs")
        lock = DirectoryLock(data_dir / "broker.lock").acquire()
        self._resources.callback(lock.release)
        self._notifications = self._resources.enter_context(NotifySocket(run / "notify.sock"))
        self._inbox = self._resources.enter_context(Inbox(self._notifications))
        self._record_path = run / NAME
        self._resources.callback(self._record_path.unlink, missing_ok=True)
        if self._with_flower:
            self.flower = prepare_flower(data_dir, port=self._settings.flower.port)
        self._start_broker(lock)
        self._start_workers()

    def wait_ready(self, *, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Watch until everyone is ready.

        Raises:
            ChildStartError: a process died again and again, or was not ready in time.
            StopRequestedError: a signal asked for an end meanwhile.
        """
        self._watch_until_ready(list(self._children.values()), timeout_s=timeout_s)

    def run(self) -> None:
        """Watch, and start again what dies, until a signal asks for an end."""
        while not self._stop_requests:
            self.pump(None)

    def pump(self, timeout_s: float | None) -> None:
        """Wait until something happens to the crew, at most `timeout_s`, and do what it asks for."""
        due = [due_s for child in self._children.values() if (due_s := child.due_in_s()) is not None]
        if self._record_is_old:
            due.append(_RECORD_RETRY_S)
        waits = due if timeout_s is None else [*due, timeout_s]
        arrived = self._inbox.wait(min(waits) if waits else None)
        self._stop_requests += sum(number in STOP_SIGNALS for number in arrived)
        for pid in self._notifications.ready_pids():
            self._note_ready(pid)
        for child in self._children.values():
            child.tick()
        self._start_flower_when_due()
        self._save_record()

    def stop(self) -> None:
        """End everyone in order, within 20 s; a second signal meanwhile ends them at once.

        Harmless when nothing runs. Nothing is left behind, whatever is raised on the way.
        """
        patience = max(1, self._stop_requests)
        try:
            for stage in self._stop_stages():
                for child in stage:
                    child.begin_stop()
                while any(child.state != "ended" for child in stage) and self._stop_requests <= patience:
                    self.pump(None)
        finally:
            self._kill_rest()
            if self._broker is not None:
                self._broker.clean_up()
            self._resources.close()

    def children(self) -> dict[str, Child]:
        """Give the processes of the crew by name."""
        return dict(self._children)

    @property
    def stop_was_forced(self) -> bool:
        """Whether more than one signal asked for the end."""
        return self._stop_requests > 1

    def _start_broker(self, lock: DirectoryLock) -> None:
        named = self._settings.broker.url
        if named is not None:
            self.broker_url = named.get_secret_value()
            check_reachable(self.broker_url)
            self._migrate()
            return
        options = self._settings.broker
        broker = EmbeddedBroker(self._settings.data_dir, choice=options.server, appendfsync=options.appendfsync)
        argv = broker.prepare()
        self._broker = broker  # only now: what lies there before may be someone else's
        self.broker_url = broker.url
        spec = members.broker_spec(
            self._settings.data_dir, argv=argv, is_ready=broker.is_ready, lock_descriptor=lock.descriptor
        )
        child = self._add(spec)
        _start(child)
        self._migrate()  # while the server reads its file
        self._watch_until_ready([child], timeout_s=_BROKER_START_TIMEOUT_S, explain=broker.explain_failure)

    def _migrate(self) -> None:
        from workers.database import create_engine, migrate  # noqa: PLC0415  0.5 s, spent while the broker starts

        options = self._settings.database
        engine = create_engine(
            self._settings.database_url,
            busy_timeout_s=options.busy_timeout_s,
            statement_timeout_s=options.statement_timeout_s,
        )
        try:
            migrate(engine)
        finally:
            engine.dispose()

    def _start_workers(self) -> None:
        env = members.crew_environment(self._settings, broker_url=self.broker_url, notify_path=self._notifications.path)
        for spec in self._workers(self._settings, env):
            _start(self._add(spec))
        if self.flower is not None:
            self._add(members.flower_spec(self._settings, env, self.flower))
        self._is_assembled = True
        self._save_record()

    def _start_flower_when_due(self) -> None:
        flower = self._children.get(members.FLOWER)
        if flower is not None and flower.state == "new":
            others = (child for child in self._children.values() if child is not flower)
            if all(child.state == "ready" for child in others):
                flower.start()

    def _watch_until_ready(
        self,
        which: Sequence[Child],
        *,
        timeout_s: float,
        explain: Callable[[str], Exception] | None = None,
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while waiting := [child for child in which if child.state != "ready"]:
            if self._stop_requests:
                raise StopRequestedError("asked to end while the crew was starting")
            for child in waiting:
                late = time.monotonic() >= deadline
                if late or child.deaths_before_ready >= (1 if explain else _MOST_DEATHS_AT_START):
                    raise explain(child.log_tail()) if explain else _start_failure(child, late=late)
            self.pump(max(0.0, deadline - time.monotonic()))

    def _note_ready(self, pid: int) -> None:
        for child in self._children.values():
            if child.pid == pid:
                child.note_ready()

    def _stop_stages(self) -> list[list[Child]]:
        stages = {members.BEAT: 0, members.BROKER: 2}
        return [[c for name, c in self._children.items() if stages.get(name, 1) == stage] for stage in range(3)]

    def _kill_rest(self) -> None:
        for child in self._children.values():
            if child.state != "ended":
                child.kill()

    def _add(self, spec: ChildSpec) -> Child:
        child = self._children[spec.name] = Child(spec, listener=self._tell)
        return child

    def _tell(self, event: CrewEvent) -> None:
        self._record_is_old = True
        self._listener(event)

    def _save_record(self) -> None:
        if not self._record_is_old:
            return
        try:
            write_record(self._record_path, self._record())
        except OSError as error:  # a full disk: no reason to end a crew that works; tried again until it is written
            self._listener(
                CrewEvent(kind="unrecorded", name="supervisor", pid=os.getpid(), took_s=0.0, reason=str(error))
            )
        else:
            self._record_is_old = False

    def _record(self) -> CrewRecord:
        flower, children = self.flower, self._children
        return CrewRecord(
            pid=os.getpid(),
            broker_url=mask_url(self.broker_url),
            flower=FlowerAddress(url=flower.url, user=flower.user) if flower else None,
            children={name: child.pid for name, child in children.items() if child.pid is not None},
            ready=tuple(name for name, child in children.items() if child.state == "ready"),
            complete=self._is_assembled and all(child.state == "ready" for child in children.values()),
            restarts={name: child.restarts for name, child in children.items()},
            started_at=self._started_at,
        )


def _start(child: Child) -> None:
    try:
        child.start()
    except OSError as error:
        msg = f"{child.spec.name} cannot be started: {error}"
        raise ChildStartError(msg) from error


def _start_failure(child: Child, *, late: bool) -> ChildStartError:
    why = "was not ready in time" if late else f"died {child.deaths_before_ready} times before it was ready"
    return ChildStartError(f"{child.spec.name} {why}; the end of {child.spec.log}:\n{child.log_tail()}")
