"""An operator calls jobs off and watches them, while real workers are at them."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from nightcrew import wire
from nightcrew._redis import kombu_url
from tasks.ledger.states import State
from tasks.ledger.store import queries
from tests.acceptance.commands import ask, run_nightcrew
from tests.support import wait_until
from tests.support.databases import migrate_database, opened_engine
from tests.support.processes import short_directory, spawned
from tests.support.redis import running_redis
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.ledger.runs import Run
    from tests.support.processes import SpawnedProcess
    from tests.support.redis import RedisServer

_WORKER = ("-m", "celery", "-A", "tests.acceptance.step_app", "worker", "-P", "solo", "-l", "INFO", "--without-mingle")
_LONG: dict[str, Any] = {"steps": 3_000, "step_s": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Broker, database and settings; workers come and go."""

    directory: Path
    redis: RedisServer
    engine: Engine
    database_url: str

    @contextmanager
    def worker(self, name: str = "first") -> Iterator[SpawnedProcess]:
        """Run a worker during the block."""
        env = {
            "TEST_BROKER_URL": self.redis.url,
            "TEST_DATABASE_URL": self.database_url,
            "TEST_WORKER_NAME": name,
        }
        with spawned([sys.executable, *_WORKER, "--without-gossip", "-n", f"{name}@test"], env=env) as process:
            yield process

    def send(self, kind: str = "test.take_steps", **payload: Any) -> str:
        """Put a job on the queue."""
        job_id = str(uuid.uuid4())
        headers = {wire.HEADER_SCHEMA: 1, wire.HEADER_ENQUEUED_AT: datetime.now(UTC).timestamp()}
        with Celery("sender", broker=kombu_url(self.redis.url), set_as_current=False) as app:
            app.send_task(kind, kwargs=payload, task_id=job_id, headers=headers, queue="nightcrew.ledger")
        return job_id

    def run(self, job_id: str) -> Run | None:
        return queries.by_id(self.engine, job_id)

    def wait_for(self, job_id: str, *states: State, timeout_s: float = 40) -> Run:
        """Wait until a job is in one of these states."""

        def arrived() -> Run | None:
            run = self.run(job_id)
            return run if run is not None and run.state in states else None

        return wait_until(arrived, timeout_s=timeout_s, what=f"job {job_id} to be {states}")

    def jobs(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Ask `nightcrew jobs`."""
        return ask("jobs", *arguments, data_dir=self.directory, code=code)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with running_redis() as redis, short_directory() as directory:
        url = f"sqlite:///{directory / 'nightcrew.db'}"
        (directory / "nightcrew.toml").write_text(f'[broker]\nurl = "{redis.url}"\n', encoding="utf-8")
        (directory / "nightcrew.toml").chmod(0o600)
        migrate_database(url)
        with opened_engine(url) as engine:
            yield House(directory=directory, redis=redis, engine=engine, database_url=url)


@pytest.fixture(autouse=True)
def _empty_queues(house: House) -> None:
    house.redis.flush()


def test_a_running_job_stops_at_its_next_checkpoint(house: House) -> None:
    """The command waits for it, and the timeline says who, why, and on which worker."""
    with house.worker():
        job_id = house.send(**_LONG)
        house.wait_for(job_id, State.RUNNING)
        answer = house.jobs("cancel", job_id, "--reason", "wrong input", "--wait", "30")
        assert [(one["state"], one["action"]) for one in answer["jobs"]] == [("cancelled", "cancel")]
        shown = house.jobs("show", job_id)
    assert [event["event"] for event in shown["events"]] == ["queued", "started", "cancel_requested", "cancelled"]
    assert shown["events"][2]["detail"].startswith("wrong input (by ")
    assert shown["job"]["attempt"] == 1
    refused = run_nightcrew("jobs", "cancel", job_id, "--reason", "again", data_dir=house.directory)
    assert (refused.code, "has ended as cancelled" in refused.output) == (1, True)


@pytest.mark.long
def test_a_request_survives_worker_and_broker(house: House) -> None:
    """The worker is frozen and killed, Redis comes back empty: the job ends as cancelled, and nobody begins it anew."""
    with house.worker("first") as worker:
        job_id = house.send(**_LONG)
        house.wait_for(job_id, State.RUNNING)
        worker.send(signal.SIGSTOP)
        assert house.jobs("cancel", job_id, "--reason", "wrong input")["counts"] == {"request": 1}
        worker.kill()
    house.redis.flush()
    lease_ends = house.wait_for(job_id, State.RUNNING).lease_until
    assert lease_ends is not None
    wait_until(lambda: datetime.now(UTC) > lease_ends, timeout_s=30, what="the end of the lease")
    with house.worker("second"):
        house.send("ledger.reconcile")
        ended = house.wait_for(job_id, State.CANCELLED, State.SUCCEEDED, State.QUEUED)
    assert (ended.state, ended.attempt, ended.worker) == (State.CANCELLED, 1, "first")
    assert (ended.error or "").startswith("wrong input (by ")


def test_children_are_called_off_with_their_parent(house: House) -> None:
    """The one worker is at the parent, so its children wait: they end at once and are never begun."""
    with house.worker():
        parent = house.send(children=2, **_LONG)
        house.wait_for(parent, State.RUNNING)
        wait_until(lambda: len(house.jobs("show", parent)["children"]) == 2, timeout_s=30, what="the children")
        answer = house.jobs("cancel", parent, "--reason", "wrong input", "--wait", "30")
        assert answer["counts"] == {"cancel": 3}
        after = house.send(steps=0)
        house.wait_for(after, State.SUCCEEDED)
    children = house.jobs("show", parent)["children"]
    assert [(child["state"], child["attempt"]) for child in children] == [("cancelled", 0)] * 2


def test_a_watch_draws_bars_and_ends_with_the_job(house: House) -> None:
    """On a terminal: waiting, then a bar that grows with the time left, then the outcome."""
    job_id = house.send(steps=60, step_s=0.25)
    argv = [sys.executable, "-m", "workers.cli", "jobs", "watch", "--data-dir", str(house.directory)]
    with house.worker():
        house.wait_for(job_id, State.RUNNING)
        with on_terminal([*argv, job_id]) as terminal:
            terminal.read_until("running", timeout_s=30)
            terminal.read_until("left at", timeout_s=30)
            terminal.read_until("of 60", timeout_s=30)
            assert terminal.wait(timeout_s=60) == 0
    assert "━" in terminal.drawn
    last = terminal.drawn[terminal.drawn.rindex(job_id) :]
    assert "succeeded" in last
    assert "100%" in last


@pytest.mark.long
def test_a_watch_outlives_the_broker_and_tells_a_bad_end(house: House) -> None:
    """Into a pipe: one object for each change, also while Redis is away; the exit code is 1."""
    with house.worker():
        job_id = house.send(**_LONG)
        house.wait_for(job_id, State.RUNNING)
        argv = [sys.executable, "-m", "workers.cli", "jobs", "watch", job_id, "--json", "--data-dir"]
        with spawned([*argv, house.directory]) as watch:
            wait_until(lambda: "running" in watch.output(), timeout_s=30, what="the first look")
            house.redis.kill9()
            seen = watch.output().count("\n")
            wait_until(lambda: watch.output().count("\n") > seen + 2, timeout_s=30, what="more progress")
            house.redis.restart()
            house.jobs("cancel", job_id, "--reason", "wrong input")
            assert watch.wait(timeout_s=30) == 1
            changes = [json.loads(line) for line in watch.output().splitlines()]
    assert [changes[0]["state"], changes[-1]["state"]] == ["running", "cancelled"]
    shares = [change["progress"] for change in changes[:-1]]
    assert shares == sorted(shares)
