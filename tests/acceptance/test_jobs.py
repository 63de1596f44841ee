"""Jobs from an app to their end, through real workers that may die."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa

from nightcrew import Nightcrew
from nightcrew.messages import ReconcileLedger, RunCanary
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory
from tests.support.redis import running_redis
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from tests.acceptance.conftest import RunningCrew

_LEASE_S = 5
SETTINGS = {"NIGHTCREW_LEDGER__LEASE_S": str(_LEASE_S)}

_MANY = 300
_LOOKS = 2_000


def test_many_jobs_end_with_their_results(crew: RunningCrew) -> None:
    """Each with its own."""
    jobs = crew.app.enqueue_many([RunCanary(note=f"job {number}") for number in range(50)])
    assert [job.result(timeout_s=60) for job in jobs] == [{"note": f"job {number}"} for number in range(50)]


def test_of_jobs_with_the_same_key_one_runs(crew: RunningCrew) -> None:
    """However many apps ask for it."""
    jobs = [crew.app.enqueue(RunCanary(note=str(number)), dedup_key="just once") for number in range(3)]
    assert jobs[0].result(timeout_s=60) == {"note": "0"}
    wait_until(lambda: all(job.state() == "cancelled" for job in jobs[1:]), timeout_s=60, what="the end of the others")
    with begin_read(crew.engine) as connection:
        rows = connection.execute(sa.select(JobRun.id).where(JobRun.dedup_key == "just once")).all()
    assert [row.id for row in rows] == [jobs[0].id]


def test_a_job_whose_worker_was_killed_runs_again(crew: RunningCrew) -> None:
    """The lease runs out, a reconcile gives the job to the next worker, and the second attempt succeeds."""
    jobs = crew.app.enqueue_many([RunCanary(note=str(number)) for number in range(_MANY)])
    interrupted = kill_worker_in_a_job(crew)
    wait_until(lambda: lease_is_over(crew, interrupted), timeout_s=2 * _LEASE_S, what="the end of the lease")
    crew.process.wait_ready()
    crew.app.enqueue(ReconcileLedger())  # that of the timetable comes within a minute
    assert crew.app.job(interrupted).result(timeout_s=60) is not None
    assert (state_of(crew, interrupted), attempts_of(crew, interrupted)) == ("succeeded", 2)
    assert [job.result(timeout_s=120) for job in jobs] == [{"note": str(number)} for number in range(_MANY)]


def test_a_job_waits_for_a_crew_that_is_down() -> None:
    """The broker is enough to hand it over; whoever works there next does it."""
    with running_redis() as redis, short_directory() as directory, Nightcrew(redis.url) as app:
        job = app.enqueue(RunCanary(note="patient"))
        assert job.state() == "unknown"
        env = {"NIGHTCREW_BROKER__URL": redis.url}
        with CrewProcess(directory, with_flower=False, env=env) as crew:
            assert "broker" not in crew.wait_ready().children
            assert job.result(timeout_s=60) == {"note": "patient"}


def kill_worker_in_a_job(crew: RunningCrew) -> str:
    """Freeze the ledger's worker again and again until it has a job in hand, and kill it then; give the job's id."""
    worker = psutil.Process(crew.process.wait_ready().children["worker-ledger"])
    for _ in range(_LOOKS):
        worker.send_signal(signal.SIGSTOP)
        if (running := canary_in_hand(crew)) is not None:
            os.kill(worker.pid, signal.SIGKILL)
            wait_until(lambda: is_gone(worker.pid), timeout_s=10, what="the end of the worker")
            return running
        worker.send_signal(signal.SIGCONT)
    msg = f"{_MANY} jobs went by and none was seen at work"
    raise AssertionError(msg)


def canary_in_hand(crew: RunningCrew) -> str | None:
    query = sa.select(JobRun.id).where(JobRun.kind == RunCanary.kind, JobRun.state == "running").limit(1)
    with begin_read(crew.engine) as connection:
        return connection.execute(query).scalar_one_or_none()


def lease_is_over(crew: RunningCrew, job_id: str) -> bool:
    with begin_read(crew.engine) as connection:
        until = connection.execute(sa.select(JobRun.lease_until).where(JobRun.id == job_id)).scalar_one()
    return until is None or until < datetime.now(UTC)


def state_of(crew: RunningCrew, job_id: str) -> str:
    with begin_read(crew.engine) as connection:
        return connection.execute(sa.select(JobRun.state).where(JobRun.id == job_id)).scalar_one()


def attempts_of(crew: RunningCrew, job_id: str) -> int:
    with begin_read(crew.engine) as connection:
        return connection.execute(sa.select(JobRun.attempt).where(JobRun.id == job_id)).scalar_one()
