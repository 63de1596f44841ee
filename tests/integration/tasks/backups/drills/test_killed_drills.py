"""A drill that is killed: its programs die with it, and the next job or start removes what it has left."""

from __future__ import annotations

import signal
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa

from nightcrew import wire
from nightcrew._uuid7 import uuid7
from nightcrew.messages import DrillRestore, VerifyVault
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations import list_drills, sweep_drills
from tasks.backups.store.addresses import address_of
from tasks.job import Delivery, definition_of, run_job
from tasks.ledger.tables import ResourceLease
from tasks.transactions import begin_read
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills import drilling_process
from tests.integration.tasks.backups.drills.drilling_process import HERE, STEPS
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory, spawned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.support.redis import RedisServer

_LOADING = "put together: read broker"
_PLACES = [pytest.param(step, marks=() if step == _LOADING else pytest.mark.chaos) for step in STEPS]
_WITH_PROGRAMS = {_LOADING}
_WITHOUT_ROOM = {"choose point", "record"}
_LEASE_IS_OVER = timedelta(minutes=5)


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    return Crew(sqlite_engine, redis_server.client(), tmp_path, seed)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have private servers work in a directory where nobody else's do."""
    with short_directory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        yield directory


@pytest.mark.parametrize("step", _PLACES)
def test_nothing_is_left_of_a_killed_drill(crew: Crew, temporary: Path, step: str) -> None:
    """No process, directory, lock, line or hold, wherever it was; and the next attempt of the run proves the point."""
    crew.full()
    job_id = str(uuid7())
    url, redis_url = crew.engine.url.render_as_string(hide_password=False), address_of(crew.redis)
    arguments: list[str | Path] = [url, redis_url, crew.directory, job_id, step]
    command = [sys.executable, "-m", drilling_process.__name__, *arguments]
    with spawned(command, env={"TMPDIR": str(temporary)}) as drill:
        wait_until(lambda: HERE in drill.output(), timeout_s=60, what=f"a drill at {step}")
        family = [child.pid for child in psutil.Process(drill.pid).children(recursive=True)]
        rooms = list((crew.options.directory / "drills").glob("drill-*"))
        assert (len(rooms), bool(family)) == (step not in _WITHOUT_ROOM, step in _WITH_PROGRAMS)
        drill.send(signal.SIGKILL)  # it alone: its programs hear of it from the kernel
        drill.wait(timeout_s=60)
        wait_until(lambda: all(is_gone(pid) for pid in family), timeout_s=60, what="no process of it")
    crew.run(VerifyVault(slices=0))
    assert _left(crew, temporary) == []
    assert (list_drills(crew.runtime), [point.proven_at for point in crew.points()]) == ([], [None])
    _try_again(crew, job_id)
    assert _left(crew, temporary) == []
    with begin_read(crew.engine) as connection:
        assert set(connection.scalars(sa.select(ResourceLease.run_id))) == {None}


def _try_again(crew: Crew, job_id: str) -> None:
    """Deliver the message once more when the lease of the dead is over."""
    runtime = replace(crew.runtime, clock=lambda: datetime.now(UTC) + _LEASE_IS_OVER)
    delivery = Delivery(id=job_id, payload=DrillRestore().to_payload(), headers={wire.HEADER_SCHEMA: 1})
    assert run_job(definition_of(DrillRestore.kind), delivery, runtime).verdict == "succeeded"
    assert [(drill.run_id, drill.verdict) for drill in list_drills(crew.runtime)] == [(job_id, Verdict.PASS)]


def test_the_start_of_a_worker_removes_it_too(crew: Crew) -> None:
    """Directories go, unless somebody lives in them; what stands open for a server is closed again."""
    backups = crew.options.directory
    room = backups / "drills" / "drill-dead"
    room.mkdir(parents=True)
    for directory in (backups, backups / "drills"):
        directory.chmod(0o711)
    (backups / "drills" / "notes").mkdir()  # of somebody else
    sweep_drills(crew.runtime)
    assert sorted(path.name for path in (backups / "drills").iterdir()) == ["notes"]
    assert [path.stat().st_mode & 0o777 for path in (backups, backups / "drills")] == [0o700, 0o700]
    sweep_drills(replace(crew.runtime, backups=None))


def _left(crew: Crew, temporary: Path) -> list[Path]:
    """Name what is there of a drill, and locks of the vault."""
    return [
        *temporary.iterdir(),
        *(crew.options.directory / "drills").glob("*"),
        *(Path(crew.options.vault.location) / "locks").iterdir(),
    ]
