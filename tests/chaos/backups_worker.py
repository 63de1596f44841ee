"""A process that forks a worker for each job of the backups: one that may be killed without anybody missing it.

`python -m tests.chaos.backups_worker SOCKET` has imported everything when it gets its first errand, so that a worker
begins in milliseconds and not after the second that a new interpreter needs. Each worker leads a session of its own,
and tells what it does in two files beside its log: the phases as they come, and the outcome once there is one.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args

from nightcrew import _redis, wire
from nightcrew.messages import CopyToSecondVault, PruneVault, RunFullBackup, RunIncrementalBackup, VerifyVault
from tasks.backups import backup, copying, jobs, pruning, restoring, verifying
from tasks.backups.operations import restore_from_vault, restore_point, vault_of
from tasks.errors import CrewError
from tasks.job import Delivery, definition_of, run_job
from tasks.runtime import NoAttempt, ProfileOptions, RetentionOptions
from tests.integration.tasks.backups.crew import options_in, runtime_of
from tests.support.databases import opened_engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    import sqlalchemy as sa

    from nightcrew.messages import Message
    from tasks.runtime import Attempt, BackupOptions, Runtime

assert jobs.__doc__  # imported so that the jobs are registered

VaultName = Literal["primary", "second"]
Operation = Literal["full", "incremental", "differential", "prune", "copy", "verify", "restore"]

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

PHASES: Final[Mapping[Operation, tuple[str, ...]]] = {
    "full": tuple(backup.PHASES),
    "incremental": tuple(backup.PHASES),
    "differential": tuple(backup.PHASES),
    "prune": tuple(pruning.PHASES),
    "copy": tuple(copying.PHASES),
    "verify": tuple(verifying.PHASES),
    "restore": tuple(restoring.PHASES),
}

MESSAGES: Final[Mapping[Operation, Message]] = {
    "full": RunFullBackup(),
    "incremental": RunIncrementalBackup(),
    "differential": RunIncrementalBackup(base="full"),
    "prune": PruneVault(),
    "copy": CopyToSecondVault(),
    "verify": VerifyVault(slices=2),
}

RETENTION: Final = ProfileOptions(
    retention=RetentionOptions(daily=1, weekly=1, monthly=0),
    second_retention=RetentionOptions(daily=1, weekly=0, monthly=0),
)
"""All points of a test are of one day: the newest chain stays, the newest full, what is proven and what is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the crew is whose job it is."""

    database_url: str
    redis_url: str
    directory: Path
    temporary: Path
    """For the temporary files of the worker and of all programs that it starts."""
    postgresql_tools: Path | None = None

    @property
    def options(self) -> BackupOptions:
        """The settings of its backups: quick, because nobody else needs the machine."""
        return replace(
            options_in(self.directory),
            profiles={"default": RETENTION},
            postgresql_tools=self.postgresql_tools,
            nice=0,
            idle_io=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a worker is to do."""

    place: Place
    operation: Operation
    run_id: str = ""
    point: str = ""
    """For a restore, which has no run; and so all that follows."""
    to: Path = Path()
    from_vault: bool = False
    """Whether nothing but the vault is asked."""
    vault: VaultName = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a worker says of its end."""

    verdict: str
    """That of the job; a restore has `succeeded` or `failed`."""
    reason: str
    seconds: float


class TellingAttempt:
    """Writes the phases down as they come, and leaves everything else to the attempt proper."""

    def __init__(self, attempt: Attempt, operation: Operation, file: Path) -> None:
        self._attempt = attempt
        self._names = PHASES[operation]
        self._file = file
        self._phase = ""

    def report(self, share: float, text: str = "") -> None:
        """Note the phase if it is another one."""
        phase = next((name for name in self._names if text.startswith(name)), self._phase)
        if phase != self._phase:
            self._phase = phase
            with suppress(OSError), self._file.open("a") as file:  # the disk may be full by design
                file.write(f"{phase}\n")
        self._attempt.report(share, text)

    @property
    def run_id(self) -> str | None:
        return self._attempt.run_id

    @property
    def number(self) -> int:
        return self._attempt.number

    @property
    def fence(self) -> int:
        return self._attempt.fence

    def checkpoint(self) -> None:
        self._attempt.checkpoint()

    def guard(self, connection: sa.Connection) -> None:
        self._attempt.guard(connection)

    def complete_in(self, connection: sa.Connection, result: Any) -> None:
        self._attempt.complete_in(connection, result)

    def take(self, resource: str) -> int:
        return self._attempt.take(resource)

    def spawn(self, message: Message, *, key: str) -> str:
        return self._attempt.spawn(message, key=key)


class Log(io.TextIOBase):
    """A log whose own full disk is nobody's concern here."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab", buffering=0)

    def write(self, text: str) -> int:
        """Write it, or lose it."""
        with suppress(OSError):
            self._file.write(text.encode())
        return len(text)


def serve(socket: Path) -> None:
    """Fork a worker for each errand, and give its pid; for one caller, until it hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    with Listener(str(socket)) as listener, listener.accept() as caller:
        while (errand := _next(caller)) is not None:
            pid = os.fork()
            if pid == 0:
                _live(*errand)
            caller.send(pid)


def _next(caller: Connection) -> tuple[Errand, Path] | None:
    """Take an errand, and where to tell of it: `<files>.log`, `.phases` and `.outcome`."""
    try:
        errand: tuple[Errand, Path] = caller.recv()
    except EOFError:
        return None
    return errand


def _live(errand: Errand, files: Path) -> NoReturn:
    """Be the worker, with the signals that a pool of Celery gives its processes, and a death that can be heard."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave)
        sys.stdout = sys.stderr = Log(files.with_suffix(".log"))
        os.environ["TMPDIR"], tempfile.tempdir = str(errand.place.temporary), None
        _work(errand, files)
        code = 0
    except BaseException:  # noqa: BLE001  nothing of the parent may run in here
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave(_number: int, _frame: object) -> NoReturn:
    """End as Celery's time limits do: what runs is told by an exception."""
    sys.exit(1)


def _work(errand: Errand, files: Path) -> None:
    began_s = time.monotonic()
    phases = files.with_suffix(".phases")
    with opened_engine(errand.place.database_url) as engine:
        redis = _redis.connect(errand.place.redis_url, 5.0)
        runtime = runtime_of(engine, redis, errand.place.options, NoAttempt())
        work = _restore if errand.operation == "restore" else _run
        verdict, reason = work(errand, runtime, phases)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    told = Told(verdict=verdict, reason=reason, seconds=time.monotonic() - began_s)
    draft = files.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(told)))
    draft.rename(files.with_suffix(".outcome"))


def _run(errand: Errand, runtime: Runtime, phases: Path) -> tuple[str, str]:
    message = MESSAGES[errand.operation]
    definition = definition_of(message.kind)

    def function(message: Any, runtime: Runtime) -> Any:
        attempt = TellingAttempt(runtime.attempt, errand.operation, phases)
        return definition.function(message, replace(runtime, attempt=attempt))

    headers = {wire.HEADER_SCHEMA: 1, wire.HEADER_ENQUEUED_AT: datetime.now(UTC).timestamp()}
    delivery = Delivery(id=errand.run_id, payload=message.to_payload(), headers=headers)
    outcome = run_job(replace(definition, function=function), delivery, runtime)
    return outcome.verdict, outcome.reason


def _restore(errand: Errand, runtime: Runtime, phases: Path) -> tuple[str, str]:
    teller = TellingAttempt(NoAttempt(), "restore", phases)
    tools = errand.place.postgresql_tools
    try:
        if errand.from_vault:
            opened = vault_of(errand.place.options, errand.vault)
            restore_from_vault(opened, errand.point, to=errand.to, teller=teller, postgresql_tools=tools)
        else:
            restore_point(runtime, errand.point, to=errand.to, vault=errand.vault, teller=teller)
    except CrewError as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "succeeded", ""


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
