"""Draining the log into the counts, exactly."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from nightcrew import wire
from tasks.ledger.tables import DeadLetter
from tasks.usage.drain import Drain
from tasks.usage.store import RedisUsageLog, SqlUsageCounts, UsageQueries

if TYPE_CHECKING:
    from tasks.usage.position import Applied
    from tests.integration.tasks.usage.conftest import Crew


def test_counts_equal_the_log(crew: Crew, seed: int) -> None:
    """After a drain every single count equals what was logged, and so does the history."""
    rng = random.Random(seed)
    expected: Counter[str] = Counter()
    for _ in range(37):
        flush = {f"key.{rng.randrange(50)}": rng.randrange(1, 100) for _ in range(20)}
        expected.update(flush)
        crew.log_add(flush)
    report = crew.drain(page_entries=10)
    assert crew.counted() == expected
    assert (report.entries, report.increments) == (37, expected.total())
    crew.check_history()


def test_second_drain_changes_nothing(crew: Crew) -> None:
    """A doorbell that rings twice counts once."""
    crew.log_add({"a": 3})
    crew.drain()
    assert crew.drain().transactions == 0
    assert crew.counted() == {"a": 3}


def test_empty_log_is_drained_quietly(crew: Crew) -> None:
    """Without a log there is nothing to do."""
    assert crew.drain().transactions == 0


def test_retried_flush_counts_once_across_drains(crew: Crew) -> None:
    """The same sequence number in a later drain is known again, and goes from the log."""
    crew.log_add({"a": 3})
    crew.drain()
    crew.log_add({"a": 3}, seq=1)
    report = crew.drain()
    assert report.duplicates == 1
    assert crew.counted() == {"a": 3}
    assert crew.redis.xlen(wire.usage_stream(0)) == 1


def test_killed_between_deleting_repetitions_and_writing_leaves_nothing_behind(crew: Crew) -> None:
    """The position stays before ids that are no more: that is no backlog, and what comes next is counted once."""
    crew.log_add({"a": 3})
    crew.drain()
    crew.log_add({"a": 3}, seq=1)
    with pytest.raises(_KilledError):
        Drain(RedisUsageLog(crew.redis), _KilledCounts(crew.engine), lambda: datetime.now(UTC)).run(0)
    position = UsageQueries(crew.engine).positions()[0]
    assert RedisUsageLog(crew.redis).backlog(0, after=position.last_id) == (0, None)
    crew.log_add({"a": 4})
    crew.drain()
    assert crew.counted() == {"a": 7}


class _KilledError(Exception):
    """In the place of a signal."""


class _KilledCounts(SqlUsageCounts):
    """A database to which the worker does not live to write."""

    def apply(self, *_: object, **__: object) -> Applied:
        raise _KilledError


def test_outcomes_are_kept_apart(crew: Crew) -> None:
    """Accepted and rejected uses are counted beside the total."""
    crew.log_add({"a": 3}, outcome="a")
    crew.log_add({"a": 2}, outcome="r")
    crew.log_add({"a": 1})
    crew.drain()
    row = UsageQueries(crew.engine).count("a")
    assert (row.total, row.accepted, row.rejected) == (6, 3, 2)


def test_keys_that_json_escapes_are_counted_as_they_are(crew: Crew) -> None:
    """Quotes, backslashes and control characters come through, alone and among many others."""
    plain = {f"key.{number}": number + 1 for number in range(100)}
    for odd in ('"', "\\", "\n", "\x7f", "\u2028", "é", "😀", '{"a":1}', "\\u0041"):
        crew.log_add({odd: 1})
        crew.drain()
        crew.log_add({**plain, odd: 2})
        crew.drain()
        assert crew.counted()[odd] == 3
    assert crew.counted()["key.99"] == 900
    crew.check_history()


def test_drains_at_once_count_once(crew: Crew) -> None:
    """Many workers that drain one partition at the same time count each entry once."""
    for _ in range(60):
        crew.log_add({f"key.{n}": 1 for n in range(20)})
    failures: list[BaseException] = []

    def drain() -> None:
        try:
            crew.drain(page_entries=3)
        except BaseException as error:  # noqa: BLE001  re-raised below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    crew.drain()
    assert crew.counted() == {f"key.{n}": 60 for n in range(20)}
    crew.check_history()


def test_malformed_entry_becomes_a_dead_letter(crew: Crew) -> None:
    """An unreadable entry is kept whole with its reason, and the drain goes on."""
    crew.log_add({"a": 1})
    crew.redis.xadd(wire.usage_stream(0), {"v": "1", "d": b"\xff\x00 garbage"})
    crew.log_add({"a": 0})
    crew.log_add({"a": 1})
    report = crew.drain()
    assert (report.rejected, crew.counted()) == (2, {"a": 2})
    with crew.engine.connect() as connection:
        letters = connection.execute(select(DeadLetter).order_by(DeadLetter.id)).all()
    assert [letter.source for letter in letters] == [wire.usage_stream(0)] * 2
    assert "base64" in letters[0].body
    assert "amount" in letters[1].reason


def test_overflowing_count_becomes_a_dead_letter(crew: Crew) -> None:
    """A sum beyond 64 bits is refused alone: its neighbours count, the drain goes on."""
    entries = 2**63 // wire.MAX_AMOUNT + 1
    for _ in range(3):
        crew.log_add({f"key.{n}": 1 for n in range(3)})
    with crew.redis.pipeline() as pipe:
        for _ in range(entries):
            crew.seq += 1
            body = f'[[{crew.hour},"","n",{{"big":{wire.MAX_AMOUNT}}}]]'
            fields = {"v": "1", "op": "add", "p": crew.producer, "s": str(crew.seq), "d": body}
            pipe.xadd(wire.usage_stream(0), fields)  # type: ignore[arg-type]
        pipe.execute()
    crew.log_add({"after": 1})
    report = crew.drain()
    counted = crew.counted()
    assert report.rejected >= 1
    assert counted["big"] == (entries - report.rejected) * wire.MAX_AMOUNT < 2**63
    assert (counted["key.0"], counted["after"]) == (3, 1)
    crew.check_history()


def test_reset_takes_its_place_in_the_log(crew: Crew) -> None:
    """A reset clears what was logged before it and nothing after, and the history still sums up."""
    crew.log_add({"a": 5, "b": 5})
    crew.log_reset("a")
    crew.log_add({"a": 2})
    crew.drain()
    assert crew.counted() == {"a": 2, "b": 5}
    crew.check_history()
    crew.log_reset()
    crew.drain()
    assert crew.counted() == {"a": 0, "b": 0}
    crew.check_history()


def test_wiped_redis_is_noticed(crew: Crew) -> None:
    """A new log is drained from its beginning, and the loss of the old one is an incident."""
    crew.log_add({"a": 5})
    crew.drain()
    crew.redis.flushall()
    crew.log_add({"a": 1})
    report = crew.drain()
    assert [incident.kind for incident in report.incidents] == ["epoch_changed"]
    assert crew.counted() == {"a": 6}
    assert not crew.drain().incidents


def test_flush_that_survived_a_wipe_as_a_retry_counts_once(crew: Crew) -> None:
    """A flush applied before Redis was wiped, and retried into the new log, is known by its sequence."""
    crew.log_add({"a": 5})
    crew.drain()
    crew.redis.flushall()
    crew.log_add({"a": 5}, seq=1)
    crew.drain()
    assert crew.counted() == {"a": 5}


def test_log_that_lost_its_end_goes_on(crew: Crew) -> None:
    """Where Redis lost entries that are applied already, new entries still get ids behind the position."""
    crew.log_add({"a": 5})
    crew.drain()
    crew.redis.delete(wire.usage_stream(0))
    report = crew.drain()
    assert [incident.kind for incident in report.incidents] == ["log_rolled_back"]
    crew.log_add({"a": 1})
    assert not crew.drain().incidents
    assert crew.counted() == {"a": 6}


def test_partitions_have_positions_of_their_own(crew: Crew) -> None:
    """Each partition is drained by itself."""
    log = RedisUsageLog(crew.redis)
    log.publish_partitions(2)
    crew.log_add({"a": 1}, partition=0)
    crew.log_add({"b": 1}, partition=1)
    for partition in log.partitions(1):
        crew.drain(partition)
    assert crew.counted() == {"a": 1, "b": 1}
    log.publish_partitions(1)
    assert log.partitions(1) == [0, 1]
