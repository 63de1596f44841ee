"""A worker of the crew as a process, on a Redis and a database of the test."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nightcrew import wire
from nightcrew.messages import RunCanary
from tests.support import databases, wait_until
from tests.support.processes import SpawnedProcess, spawned
from tests.unit.workers.celery.envelopes import item
from workers.celery_config import WorkerKind, worker_command, worker_environment
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from redis import Redis

QUEUE = RunCanary.queue
START_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class WorkerOnTrial:
    """A worker that takes messages, and its Redis."""

    process: SpawnedProcess
    redis: Redis

    def letters(self) -> list[dict[str, str]]:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.redis.xrange(wire.DEAD_LETTERS))
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    def letter_count(self) -> int:
        return self.redis.xlen(wire.DEAD_LETTERS)

    def put(self, *items: bytes) -> None:
        self.redis.lpush(QUEUE, *items)

    def run_canary(self, *, timeout_s: float = 20.0) -> None:
        """See that a valid message is still done, by this very process."""
        raw = item(payload={"note": "still alive"})
        job_id = json.loads(raw)["headers"]["id"]
        self.put(raw)
        wait_until(
            lambda: self.redis.hget(wire.job_mirror(job_id), "state") == b"succeeded",
            timeout_s=timeout_s,
            what="the canary",
            interval_s=0.02,
        )
        assert self.process.is_running()
        assert self.log_events("ledger@") == 1, "the worker has started more than once"

    def log_events(self, text: str) -> int:
        """Count the lines in which a worker says that it is ready."""
        return sum(text in line and " ready." in line for line in self.process.output().splitlines())


@contextmanager
def running_worker(
    data_dir: Path,
    *,
    broker_url: str,
    redis: Redis,
    kind: WorkerKind = "ledger",
    env: Mapping[str, str] | None = None,
    app: str = "workers.app",
) -> Iterator[WorkerOnTrial]:
    """Run a worker during the block; `app` is the module of its Celery app."""
    command = worker_command(kind, load_settings(data_dir, env={}))
    databases.migrate_database(f"sqlite:///{data_dir / 'nightcrew.db'}")
    with spawned(
        [app if part == "workers.app" else part for part in command],
        env={**process_environment(data_dir, broker_url), **worker_environment(kind), **(env or {})},
        cwd=data_dir,
    ) as process:
        worker = WorkerOnTrial(process=process, redis=redis)
        wait_until(lambda: _is_ready(worker, kind), timeout_s=START_TIMEOUT_S, what="a worker that is ready")
        yield worker


def process_environment(data_dir: Path, broker_url: str) -> dict[str, str]:
    """Give what every process of the crew finds in its environment."""
    return {"NIGHTCREW_DATA_DIR": str(data_dir), "NIGHTCREW_BROKER__URL": broker_url, "NIGHTCREW_LOG__FORMAT": "json"}


def json_lines(output: str) -> list[dict[str, Any]]:
    """Read a log; what Celery writes past every log when it ends ("worker: Warm shutdown") is no part of it."""
    lines = [line for line in output.splitlines() if line and not line.startswith("worker: ")]
    return [json.loads(line) for line in lines]


def _is_ready(worker: WorkerOnTrial, kind: WorkerKind) -> bool:
    assert worker.process.is_running(), "the worker has ended"
    return worker.log_events(f"{kind}@") == 1
