"""The job of the usage slice, on real servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from nightcrew import wire
from nightcrew.messages import DrainUsage
from tasks.runtime import Runtime, UsageOptions
from tasks.usage.jobs import drain_usage
from tasks.usage.operations import backlog, log_reset
from tasks.usage.position import LogGapError
from tasks.usage.store import UsageQueries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightcrew.messages import Message
    from tasks.runtime import Posting
    from tests.integration.tasks.usage.conftest import Crew


@dataclass
class FakePublisher:
    """Keeps what was published."""

    published: list[Message] = field(default_factory=list)

    def publish(self, message: Message, *, job_id: str, correlation_id: str, enqueued_at: datetime) -> None:
        assert job_id
        assert correlation_id
        assert enqueued_at.tzinfo is not None
        self.published.append(message)

    def publish_many(self, postings: Sequence[Posting]) -> None:
        self.published += [posting.message for posting in postings]


def runtime_of(crew: Crew, *, partitions: int = 1) -> Runtime:
    return Runtime(
        engine=crew.engine,
        redis=crew.redis,
        publisher=FakePublisher(),
        timetable={},
        worker_name="test",
        usage=UsageOptions(partitions=partitions),
    )


def test_safety_net_drains_and_announces_every_partition(crew: Crew) -> None:
    """Without a partition the job drains all, and tells producers how many there are."""
    crew.log_add({"a": 1}, partition=0)
    crew.log_add({"b": 1}, partition=1)
    drain_usage(DrainUsage(), runtime_of(crew, partitions=2))
    assert crew.counted() == {"a": 1, "b": 1}
    assert crew.redis.hget(wire.USAGE_META, "partitions") == b"2"


def test_backlog_is_measured(sqlite_crew: Crew) -> None:
    """What is logged and not counted shows with its age, and is gone after the drain."""
    sqlite_crew.log_add({"a": 1})
    runtime = runtime_of(sqlite_crew)
    [before] = backlog(runtime)
    assert (before.entries, before.age_s >= 0, before.log_bytes > 0) == (1, True, True)
    drain_usage(DrainUsage(partition=0), runtime)
    [after] = backlog(runtime)
    assert (after.entries, after.age_s) == (0, 0)


def test_reset_is_logged_and_rings(sqlite_crew: Crew) -> None:
    """A reset stands in the log of its key's partition, and a worker is told of it."""
    sqlite_crew.log_add({"a": 5, "b": 1})
    runtime = runtime_of(sqlite_crew)
    drain_usage(DrainUsage(partition=0), runtime)
    log_reset(runtime, key="a", context=None)
    assert isinstance(runtime.publisher, FakePublisher)
    assert runtime.publisher.published == [DrainUsage(partition=0)]
    drain_usage(DrainUsage(partition=0), runtime)
    assert sqlite_crew.counted() == {"a": 0, "b": 1}


def test_gap_is_told_once_by_bells_and_each_time_by_the_net(sqlite_crew: Crew) -> None:
    """A log that begins behind the position stops the counting loudly, without a letter for each bell."""
    sqlite_crew.log_add({"a": 1})
    runtime = runtime_of(sqlite_crew)
    drain_usage(DrainUsage(partition=0), runtime)
    sqlite_crew.log_add({"a": 1})
    sqlite_crew.redis.hset(wire.USAGE_META, "forgotten:0", f"{2**45}-0")
    for _ in range(3):
        drain_usage(DrainUsage(partition=0), runtime)
    with pytest.raises(LogGapError):
        drain_usage(DrainUsage(), runtime)
    incidents = UsageQueries(sqlite_crew.engine).incidents(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert [incident.kind for _, _, incident in incidents] == ["log_gap"]
    assert sqlite_crew.counted() == {"a": 1}
