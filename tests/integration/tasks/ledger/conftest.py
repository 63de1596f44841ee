"""A ledger on a real database and a real Redis, with a clock that the test turns."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
import structlog

from nightcrew import wire
from nightcrew.messages import DrainUsage, RunCanary
from tasks.errors import TransientError
from tasks.job import Definition, Delivery, Outcome, run_job
from tasks.ledger.retries import STANDARD, RetryPolicy
from tasks.ledger.runs import wanted_run
from tasks.ledger.store import queries
from tasks.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from redis import Redis
    from sqlalchemy import Engine

    from nightcrew.messages import Message
    from tasks.ledger.runs import Run, WantedRun
    from tasks.runtime import Posting, ScheduleEntry
    from tests.support.redis import RedisServer

JOB_ID = "01931f2e-5f6a-7abc-8def-0123456789ab"
OTHER_ID = "01931f2e-5f6a-7abc-8def-0123456789ac"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class QueueOfRecord:
    """A working publisher: messages stand in Redis as kombu would put them there, and are listed."""

    redis: Redis
    published: list[str] = field(default_factory=list)
    is_away: bool = False

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        if self.is_away:
            msg = "broker is away"
            raise TransientError(msg)
        headers = {"id": job_id, wire.HEADER_ENQUEUED_AT: enqueued_at.timestamp(), "correlation": correlation_id}
        self.redis.lpush(message.queue, json.dumps({"headers": headers, "body": ""}))
        self.published.append(job_id)

    def publish_many(self, postings: Sequence[Posting]) -> None:
        for one in postings:
            self.publish(one.message, job_id=one.job_id, correlation_id=one.correlation_id, enqueued_at=one.enqueued_at)


@dataclass(frozen=True, kw_only=True)
class MinuteEntry:
    name: str
    message: Message
    catch_up: Literal["none", "last", "all"] = "none"
    grace: timedelta = timedelta(minutes=5)
    max_duration: timedelta = timedelta(minutes=10)

    def slot_at(self, instant: datetime) -> datetime:
        return instant.replace(second=0, microsecond=0)

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        return (self.slot_at(instant) + timedelta(minutes=number) for number in count(1))

    def slots_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return takewhile(lambda slot: slot <= until, self.slots_after(after))


@dataclass
class Bench:
    """Everything a test of the ledger turns, and short ways to what it looks at."""

    runtime: Runtime
    clock: Clock
    queue: QueueOfRecord

    @property
    def redis(self) -> Redis:
        return self.runtime.redis

    def run(self, job_id: str = JOB_ID) -> Run:
        found = queries.by_id(self.runtime.engine, job_id)
        assert found is not None
        return found

    def follow(self, *entries: ScheduleEntry) -> None:
        """Give the crew a timetable; without one nothing is ever due."""
        self.runtime = replace(self.runtime, timetable={entry.name: entry for entry in entries})

    def mirror(self, job_id: str = JOB_ID) -> dict[str, str]:
        stored = cast("dict[bytes, bytes]", self.redis.hgetall(wire.job_mirror(job_id)))
        return {name.decode(): value.decode() for name, value in stored.items()}

    def intend(self, job_id: str = JOB_ID, *, entry_id: str = "*", **fields: str) -> None:
        whole = {
            "v": "1",
            "id": job_id,
            "kind": "ledger.canary",
            "payload": "{}",
            "dedup_key": "",
            "correlation_id": "",
            "enqueued_at": str(self.clock().timestamp()),
        }
        self.redis.xadd(wire.INTENTS, cast("Any", {**whole, **fields}), id=entry_id)

    def wanted(self, job_id: str = JOB_ID, *, dedup_key: str | None = None) -> WantedRun:
        return wanted_run(
            job_id=job_id,
            kind=RunCanary.kind,
            payload={"note": "x"},
            dedup_key=dedup_key,
            correlation_id=None,
            enqueued_at=self.clock(),
        )

    def deliver(
        self,
        function: Callable[[Any, Runtime], Any],
        *,
        job_id: str | None = JOB_ID,
        payload: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        retry: RetryPolicy = STANDARD,
        row_optional: bool = False,
        exclusive: Callable[[Any], Collection[str]] | None = None,
    ) -> Outcome:
        kind = DrainUsage if row_optional else RunCanary
        definition = Definition(
            message_type=kind, function=function, retry=retry, row_optional=row_optional, exclusive=exclusive
        )
        stamped = {wire.HEADER_SCHEMA: 1, wire.HEADER_ENQUEUED_AT: self.clock().timestamp(), **(headers or {})}
        return run_job(definition, Delivery(id=job_id, payload=payload or {}, headers=stamped), self.runtime)


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """Give what was logged, and keep it off the screen."""
    with structlog.testing.capture_logs() as entries:
        yield cast("list[Any]", entries)


@pytest.fixture
def bench(engine: Engine, redis_server: RedisServer) -> Bench:
    """Give a ledger on each kind of database."""
    return make_bench(engine, redis_server)


@pytest.fixture
def quick_bench(sqlite_engine: Engine, redis_server: RedisServer) -> Bench:
    """Give a ledger on SQLite alone, for what does not depend on the database."""
    return make_bench(sqlite_engine, redis_server)


def make_bench(engine: Engine, redis_server: RedisServer) -> Bench:
    """Make a ledger on a database."""
    clock = Clock()
    redis = redis_server.client()
    queue = QueueOfRecord(redis)
    runtime = Runtime(
        engine=engine,
        redis=redis,
        publisher=queue,
        timetable={},
        worker_name="ledger@test",
        clock=clock,
    )
    return Bench(runtime=runtime, clock=clock, queue=queue)
