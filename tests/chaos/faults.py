"""What may befall a crew besides death: a full disk, a full broker, a line that is cut, a database that crashes.

Each strikes when its block is entered and is over when the block is left.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psutil
import sqlalchemy as sa

from nightcrew._redis import connect
from tasks.transactions import begin_read
from tests.support.processes import is_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.chaos.working import WorkingCrew

    Fault = Callable[[WorkingCrew], AbstractContextManager[None]]

WORKER: Final = "worker-ledger"

_FULL_BYTES: Final = 4096
"""No file grows beyond this on a full disk. The first page of a database fits in, and nothing else."""
_TIMEOUT_S: Final = 5.0


@contextmanager
def full_disk(crew: WorkingCrew) -> Iterator[None]:
    """Let no file of the ledger worker grow (RLIMIT_FSIZE, prlimit(2)): neither the database nor its log."""
    pids = family_of(crew, WORKER)
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, hard))
    try:
        yield
    finally:
        for pid, limits in zip(pids, before, strict=True):
            if not is_gone(pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def full_broker(crew: WorkingCrew) -> Iterator[None]:
    """Let the broker take nothing more: its memory is used up, and it may not evict."""
    with connect(crew.url, timeout_s=_TIMEOUT_S) as redis:
        redis.config_set("maxmemory", 1)
        try:
            yield
        finally:
            redis.config_set("maxmemory", 0)


@contextmanager
def silent_broker(crew: WorkingCrew) -> Iterator[None]:
    """Freeze the broker: every connection stays open, and nothing answers (SIGSTOP)."""
    with frozen(crew, "broker"):
        yield


@contextmanager
def frozen_worker(crew: WorkingCrew) -> Iterator[None]:
    """Freeze the ledger worker with all its children (SIGSTOP)."""
    with frozen(crew, WORKER):
        yield


@contextmanager
def cut_connections(crew: WorkingCrew) -> Iterator[None]:
    """Cut every connection that anyone has to the broker, at the start and once more at the end."""
    with connect(crew.url, timeout_s=_TIMEOUT_S) as redis:
        redis.client_kill_filter(_type="normal", skipme=True)
        yield
        redis.client_kill_filter(_type="normal", skipme=True)


@contextmanager
def crashed_database(crew: WorkingCrew) -> Iterator[None]:
    """Kill a process of the PostgreSQL server with SIGKILL: the server drops all sessions and recovers from its log.

    https://www.postgresql.org/docs/current/server-shutdown.html
    """
    with begin_read(crew.engine) as connection:
        victim = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        postmaster = psutil.Process(victim).ppid()
        others = [child.pid for child in psutil.Process(postmaster).children() if child.pid != victim]
    os.kill(others[-1], signal.SIGKILL)
    yield


@contextmanager
def frozen(crew: WorkingCrew, member: str) -> Iterator[None]:
    """Stop a member with all its children during the block."""
    pids = family_of(crew, member)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if not is_gone(pid):
                os.kill(pid, signal.SIGCONT)


def family_of(crew: WorkingCrew, member: str) -> list[int]:
    """Give the process ids of a member and its children."""
    record = crew.process.record()
    assert record is not None, f"the supervisor has ended with exit code {crew.process.exit_code()}"
    pid = record.children[member]
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
