"""Collecting the access log into the counters, exactly; and what is missing is told."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from nightcrew import wire
from nightcrew.signing import Guard, Signer, SigningKey
from tasks.ledger.dead_letters import KeptLetter, Reappend, plan_retry
from tasks.ledger.tables import DeadLetter
from tasks.ttl.collecting import Collector
from tasks.ttl.store.access import RedisAccessLog, SqlAccessCounters
from tasks.ttl.tables import AccessIncident

if TYPE_CHECKING:
    from tasks.ttl.collecting import AccessPage, Applied
    from tests.integration.tasks.ttl.conftest import AccessCrew
    from tests.support.redis import RedisServer

FAMILIES = ("defaults", "statistics", "models", "sessions")
NAMES = ("hits", "misses", "sets", "deletes", "bytes_read", "bytes_written")


def incidents(crew: AccessCrew) -> list[str]:
    with crew.engine.connect() as connection:
        return list(connection.execute(select(AccessIncident.kind).order_by(AccessIncident.id)).scalars())


def letters(crew: AccessCrew) -> list[str]:
    with crew.engine.connect() as connection:
        return list(connection.execute(select(DeadLetter.reason).order_by(DeadLetter.id)).scalars())


def test_counters_equal_the_log(crew: AccessCrew, seed: int) -> None:
    """After a collection every single counter equals what was shipped."""
    rng = random.Random(seed)
    expected: dict[str, Counter[str]] = {}
    for _ in range(37):
        family, counts = rng.choice(FAMILIES), {name: rng.randrange(1, 1_000) for name in NAMES}
        crew.ship(family=family, **counts)  # type: ignore[arg-type]  # only numbers
        sums = {**counts, "requests": counts["hits"] + counts["misses"]}
        expected.setdefault(family, Counter()).update(sums)
    report = crew.collect(page_entries=10)
    assert crew.counted() == expected
    assert (report.entries, report.transactions, report.dropped, incidents(crew)) == (37, 4, 0, [])


def test_a_second_collection_changes_nothing(crew: AccessCrew) -> None:
    """A job that comes twice counts once."""
    crew.ship(hits=3)
    crew.collect()
    assert crew.collect().transactions == 0
    assert crew.counted() == {"defaults": Counter(requests=3, hits=3)}


def test_an_empty_log_is_collected_quietly(crew: AccessCrew) -> None:
    """Without a cache there is nothing to do."""
    assert crew.collect().transactions == 0
    assert crew.position() is None


def test_a_shipment_that_comes_again_counts_once(crew: AccessCrew) -> None:
    """Also when Redis no longer knows it: the database does, over collections."""
    shipment = crew.ship(hits=3)
    crew.collect()
    crew.redis.delete(wire.access_producer(crew.producer))
    crew.append(shipment)
    report = crew.collect()
    assert (report.duplicates, report.dropped) == (1, 0)
    assert crew.counted() == {"defaults": Counter(requests=3, hits=3)}
    crew.redis.delete(wire.access_producer(crew.producer))
    for _ in range(2):
        crew.append(replace(shipment, seq=2))
        crew.redis.delete(wire.access_producer(crew.producer))
    assert crew.collect().duplicates == 1
    assert crew.counted() == {"defaults": Counter(requests=6, hits=6)}


class _KilledError(Exception):
    """In the place of a signal."""


class _KilledCounters(SqlAccessCounters):
    """A database to which the worker does not live to write."""

    def apply(self, *_: object, **__: object) -> Applied:
        raise _KilledError


def test_killed_before_it_writes_leaves_nothing_behind(crew: AccessCrew) -> None:
    """The next collection takes all of it in, once."""
    crew.ship(hits=3)
    with pytest.raises(_KilledError):
        Collector(RedisAccessLog(crew.redis), _KilledCounters(crew.engine), lambda: datetime.now(UTC)).run()
    assert crew.counted() == {}
    crew.collect()
    assert crew.counted() == {"defaults": Counter(requests=3, hits=3)}


def test_collections_at_once_count_once(crew: AccessCrew) -> None:
    """Many workers at the same time count each entry once, and each loss."""
    for _ in range(60):
        crew.ship(hits=1, family=random.choice(FAMILIES))
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=50, approximate=False)
    failures: list[BaseException] = []

    def collect() -> None:
        try:
            crew.collect(page_entries=3)
        except BaseException as error:  # noqa: BLE001  re-raised below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=collect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    crew.collect()
    sums = sum(crew.counted().values(), Counter())
    assert sums == Counter(requests=50, hits=50, dropped=10)


def test_what_was_trimmed_is_told_as_dropped(crew: AccessCrew) -> None:
    """To the last operation, by family, once, and as an incident."""
    crew.ship(hits=1)
    crew.collect()
    for many in (10, 20, 30):
        crew.ship(hits=many, misses=1, sets=1)
        crew.ship(family="models", deletes=many)
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=2, approximate=False)
    report = crew.collect()
    assert report.dropped == 34 + 30
    crew.ship(hits=1)
    assert crew.collect().dropped == 0
    assert crew.counted() == {
        "defaults": Counter(requests=33, hits=32, misses=1, sets=1, dropped=34),
        "models": Counter(deletes=30, dropped=30),
    }
    assert incidents(crew) == ["counters_dropped"]


def test_a_log_trimmed_to_nothing_is_told(crew: AccessCrew) -> None:
    """There is no entry left that could say so."""
    crew.ship(hits=7)
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=0, approximate=False)
    assert crew.collect().dropped == 7
    assert crew.collect().transactions == 0
    assert crew.counted() == {"defaults": Counter(dropped=7)}


class _Overtaken(RedisAccessLog):
    """A log that another worker collects after this one has read it."""

    crew: AccessCrew

    def read(self, *, after: str, count: int) -> AccessPage:
        page = super().read(after=after, count=count)
        self.crew.collect()
        return page


def test_a_loss_that_two_workers_see_is_told_once(crew: AccessCrew) -> None:
    """It moves no offset, and still only one of them may write it down."""
    crew.ship(hits=1)
    crew.collect()
    crew.ship(hits=7)
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=0, approximate=False)
    log = _Overtaken(crew.redis)
    log.crew = crew
    Collector(log, SqlAccessCounters(crew.engine), lambda: datetime.now(UTC)).run()
    assert crew.counted() == {"defaults": Counter(requests=1, hits=1, dropped=7)}
    assert incidents(crew) == ["counters_dropped"]


def test_a_restored_database_takes_in_what_the_log_still_has(crew: AccessCrew) -> None:
    """And says how much it has no more: what was counted after the copy was taken is not counted twice."""
    crew.ship(hits=5)
    crew.ship(hits=6)
    crew.ship(hits=7)
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=1, approximate=False)
    crew.collect()
    assert crew.counted() == {"defaults": Counter(requests=7, hits=7, dropped=11)}


def test_a_wiped_redis_is_noticed(crew: AccessCrew) -> None:
    """Its new log is taken in from the beginning, whatever its ids, and somebody is told."""
    crew.ship(hits=3)
    crew.collect()
    crew.redis.flushdb()
    crew.ship(hits=4)
    report = crew.collect()
    assert [one.kind for one in report.incidents] == incidents(crew) == ["epoch_changed"]
    assert crew.counted() == {"defaults": Counter(requests=7, hits=7)}
    assert (crew.collect().transactions, report.dropped) == (0, 0)


def test_a_log_that_was_rolled_back_is_noticed(crew: AccessCrew) -> None:
    """Ids are not given twice, what is sent again counts once, and nothing is told as dropped that was counted."""
    crew.ship(hits=1)
    saved = {key: crew.redis.dump(key) for key in crew.redis.keys("nightcrew:access*")}
    lost = crew.ship(hits=3)
    crew.collect()
    for key, told in saved.items():
        crew.redis.restore(key, 0, told, replace=True)  # type: ignore[arg-type]
    report = crew.collect()
    assert [one.kind for one in report.incidents] == ["log_rolled_back"]
    assert crew.collect().transactions == 0
    crew.append(lost)
    crew.ship(hits=5)
    report = crew.collect()
    assert (report.duplicates, report.dropped) == (1, 0)
    assert crew.counted() == {"defaults": Counter(requests=9, hits=9)}
    crew.ship(hits=2)
    crew.redis.xtrim(wire.ACCESS_LOG, maxlen=0, approximate=False)
    assert crew.collect().dropped == 2


@pytest.mark.parametrize(
    "told",
    [
        {"v": "1", "d": b"\xff\x00 garbage"},
        {"v": "2"},
        {"nothing": "x"},
        {"v": "1", "p": "p", "s": "0"},
        {"v": "1", "p": "p", "s": "9" * 30},
        {"v": "1", "p": "x" * 65, "s": "1"},
        {"v": "1", "p": b"\xff", "s": "1"},
    ],
)
def test_a_malformed_entry_becomes_a_dead_letter(sqlite_crew: AccessCrew, told: dict[str, str | bytes]) -> None:
    """It is kept whole with its reason, and the collection goes on; its neighbours count."""
    crew = sqlite_crew
    good = crew.ship(hits=1)
    crew.redis.xadd(wire.ACCESS_LOG, {"d": good.body, **told})  # type: ignore[dict-item]
    crew.ship(hits=1)
    report = crew.collect()
    assert (report.rejected, report.dropped, len(letters(crew))) == (1, 0, 1)
    assert crew.counted() == {"defaults": Counter(requests=2, hits=2)}
    assert crew.collect().transactions == 0


def test_bodies_from_nowhere_are_refused_whole(sqlite_crew: AccessCrew, seed: int) -> None:
    """Cut short, changed, or chance: each is counted whole or a dead letter, and nothing stops."""
    crew, rng = sqlite_crew, random.Random(seed)
    body = crew.ship(hits=3, sets=2, bytes_read=77).body
    bodies = [body[: rng.randrange(len(body))] for _ in range(20)]
    for _ in range(40):
        changed = bytearray(body)
        changed[rng.randrange(len(body))] = rng.randrange(256)
        bodies.append(bytes(changed))
    bodies += [rng.randbytes(rng.randrange(1, 200)) for _ in range(20)]
    for number, one in enumerate(bodies):
        crew.redis.xadd(wire.ACCESS_LOG, {"v": "1", "p": f"hostile-{number}", "s": "1", "d": one})
    crew.ship(hits=1)
    report = crew.collect(page_entries=7)
    assert report.entries == len(bodies) + 2
    assert len(letters(crew)) == report.rejected >= 20
    assert crew.position().last_id == RedisAccessLog(crew.redis).read(after="0-0", count=1).last_generated_id


def test_sums_beyond_64_bits_are_refused_alone(crew: AccessCrew) -> None:
    """The entry that would pass the limit is a dead letter: its neighbours count."""
    entries = 2**63 // wire.MAX_AMOUNT + 1
    for _ in range(entries):
        crew.ship(hits=0, misses=0, sets=0, bytes_read=wire.MAX_AMOUNT)
    crew.ship(family="models", hits=1)
    report = crew.collect(page_entries=500)
    assert report.rejected == 1
    assert crew.counted()["models"] == Counter(requests=1, hits=1)
    assert crew.counted()["defaults"]["bytes_read"] == wire.MAX_AMOUNT * (entries - 1)


def test_totals_that_no_app_wrote_stop_nothing(sqlite_crew: AccessCrew) -> None:
    """What can be no count is passed over; what can be one is told, for nobody could tell it from a loss."""
    crew = sqlite_crew
    crew.ship(hits=1)
    hostile = {"logged:": "1", "logged:a b": "1", "logged:x": "-1", "logged:y": "9" * 5000, b"logged:\xff": "1"}
    crew.redis.hset(wire.ACCESS_TOTALS, mapping=hostile)  # type: ignore[arg-type]
    assert crew.collect().dropped == 0
    crew.redis.hincrby(wire.ACCESS_TOTALS, "logged:models", 9)
    assert crew.collect().dropped == 9


def test_only_signed_entries_count_where_signatures_are_required(sqlite_crew: AccessCrew) -> None:
    """An entry without one becomes a dead letter, and its operations are told as dropped."""
    key = SigningKey.generate("k")
    sqlite_crew.ship(hits=1, signer=Signer([key]))
    sqlite_crew.ship(hits=5)
    report = sqlite_crew.collect(guard=Guard([key], requires=True))
    assert (report.rejected, report.dropped) == (1, 5)
    assert sqlite_crew.counted() == {"defaults": Counter(requests=1, hits=1, dropped=5)}


def test_counters_stand_in_the_hour_of_the_requests(sqlite_crew: AccessCrew) -> None:
    """Not in that of the collection; a process whose clock is a year ahead is not believed."""
    crew = sqlite_crew
    now = datetime.now(UTC)
    for ahead, hits in ((timedelta(hours=-3), 3), (timedelta(0), 1), (timedelta(days=365), 9)):
        crew.ship_at(now + ahead, hits=hits)
    report = crew.collect()
    hour = int(now.timestamp()) // 3600
    found = {row["hour"]: row["hits"] for row in SqlAccessCounters(crew.engine).hours(since_hour=0)}
    assert found == {hour - 3: 3, hour: 1} | ({hour: 1} if report.dropped == 9 else {})
    assert report.rejected == 1


def test_old_counters_are_forgotten(crew: AccessCrew, redis_server: RedisServer) -> None:
    """Hours, silent processes and incidents have an end."""
    crew.ship(hits=1)
    redis_server.flush()
    crew.ship(hits=1)
    crew.collect()
    later = datetime.now(UTC) + timedelta(days=1)
    counters, hour = SqlAccessCounters(crew.engine), int(later.timestamp()) // 3600
    early = datetime.now(UTC) - timedelta(days=1)
    assert counters.forget(hours_before=0, producers_before=early, incidents_before=early) == 0
    assert counters.forget(hours_before=hour, producers_before=later, incidents_before=later) == 2
    assert crew.counted() == {}


def test_the_log_is_forgotten_by_age(sqlite_crew: AccessCrew) -> None:
    """Also when no app writes any more; and the apps are told what it keeps."""
    crew = sqlite_crew
    old_ms = int((datetime.now(UTC) - timedelta(hours=26)).timestamp() * 1000)
    crew.redis.xadd(wire.ACCESS_LOG, {"v": "1"}, id=f"{old_ms}-0")
    crew.ship(hits=1)
    log = RedisAccessLog(crew.redis)
    assert log.keep_to(keep=timedelta(hours=25), cap_bytes=1_000, now=datetime.now(UTC)) == 1
    assert crew.redis.xlen(wire.ACCESS_LOG) == 1
    assert crew.redis.hmget(wire.ACCESS_META, "keep_ms", "cap_bytes") == [b"90000000", b"1000"]


def test_a_dead_letter_that_is_tried_again_counts_once(sqlite_crew: AccessCrew) -> None:
    """A release that could not read it keeps it; the next one can, however often it is told to."""
    crew = sqlite_crew
    shipment = crew.ship(hits=3)
    guard = Guard([SigningKey.generate("k")], requires=True)
    assert crew.collect(guard=guard).rejected == 1
    with crew.engine.connect() as connection:
        row = connection.execute(select(DeadLetter)).one()
    assert row.source == wire.ACCESS_LOG
    letter = KeptLetter(**{one.name: getattr(row, one.name) for one in fields(KeptLetter)})
    for _ in range(2):
        plan = plan_retry(letter)
        assert isinstance(plan, Reappend)
        assert plan.fields[b"d"] == shipment.body
        crew.redis.xadd(plan.stream, dict(plan.fields))  # type: ignore[arg-type]
    crew.collect()
    assert crew.counted() == {"defaults": Counter(requests=3, hits=3, dropped=3)}
