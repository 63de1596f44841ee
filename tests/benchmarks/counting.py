"""Increments per second, ours and the floors, in turn."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from redis import Redis

from tests.benchmarks import floors, workloads
from tests.benchmarks.bare import other_database
from tests.benchmarks.measuring import Contender
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from nightcrew.usage import UsageCounter
    from tests.benchmarks.bare import BareCelery
    from tests.benchmarks.measuring import Sample
    from tests.benchmarks.whole_path import Caller, RunningCrew
    from tests.benchmarks.workloads import Workload

ONE_CALL: Final = "increment, one call each"
MANY: Final = "increment_many, 1,000 keys a call"
MANY_AT_ONCE: Final = "increment_many, 50,000 keys a call"
MAPPING: Final = "increment_many, a Counter of 50,000 a call"
DIFFERENT: Final = "increment_many, all keys differ"
INCR: Final = "(a) pipelined INCR, 1,000 a batch"
ONE_TASK: Final = "(b) one Celery task per increment"
RANDOM_ORDER: Final = "increment_many, all keys differ, random order"
UPSERTS: Final = "(c) SQLite executemany, 1,000 a transaction"
ROWID_UPSERTS: Final = "(c) the same, table with rowid (default)"
RANDOM_UPSERTS: Final = "(c) the same, random order"
DICT: Final = "(d) bare dict"

_FLOOR_DATABASE_NUMBER: Final = 2


def contenders(crew: RunningCrew, bare: BareCelery, *, scale: float) -> list[Contender]:
    """Name everyone who is measured against SQLite; `scale` shrinks the work, not the number of keys."""
    hot = workloads.zipf(round(5_000_000 * scale))
    warm = workloads.zipf(round(500_000 * scale))
    few = workloads.zipf(round(4_000 * scale))
    different = workloads.all_different(300_000)
    random_order = workloads.shuffled(different)
    redis = Redis.from_url(other_database(crew.record.broker_url, _FLOOR_DATABASE_NUMBER))
    measures = {
        ONE_CALL: partial(crew.count, hot, one_by_one),
        "increment, context and accepted": partial(crew.count, hot, with_context),
        MANY: partial(crew.count, hot, many_by_thousand),
        MANY_AT_ONCE: partial(crew.count, hot, many_by_fifty_thousand),
        MAPPING: partial(crew.count, hot, many_as_mapping),
        "increment, spool": partial(_count_spooled, crew, warm, one_by_one),
        "increment_many, spool": partial(_count_spooled, crew, warm, many_by_thousand),
        INCR: partial(floors.redis_incr, redis, warm),
        ONE_TASK: partial(bare.count, few),
        DICT: partial(floors.bare_dict, hot),
        "increment, all keys differ": partial(crew.count, different, one_by_one),
        DIFFERENT: partial(crew.count, different, many_by_thousand),
        RANDOM_ORDER: partial(crew.count, random_order, many_by_thousand),
        UPSERTS: partial(floors.sqlite_upserts, different, rows_per_transaction=1_000),
        ROWID_UPSERTS: partial(floors.sqlite_upserts, different, rows_per_transaction=1_000, with_rowid=True),
        RANDOM_UPSERTS: partial(floors.sqlite_upserts, random_order, rows_per_transaction=1_000),
        "(c) 50,000 a transaction": partial(floors.sqlite_upserts, different, rows_per_transaction=50_000),
        "(c) 1,000 a transaction, both of our tables": partial(
            floors.sqlite_upserts_into_our_tables, different, rows_per_transaction=1_000
        ),
    }
    return [Contender(name=name, measure=measure) for name, measure in measures.items()]


def postgresql_contenders(crew: RunningCrew, *, scale: float) -> list[Contender]:
    """Name the few that are measured on PostgreSQL too."""
    hot = workloads.zipf(round(5_000_000 * scale))
    different = workloads.all_different(300_000)
    measures = {
        ONE_CALL: partial(crew.count, hot, one_by_one),
        MANY: partial(crew.count, hot, many_by_thousand),
        DIFFERENT: partial(crew.count, different, many_by_thousand),
    }
    return [Contender(name=f"PostgreSQL, fsync off: {name}", measure=measure) for name, measure in measures.items()]


def one_by_one(usage: UsageCounter, workload: Workload) -> None:
    increment = usage.increment
    for key in workload.keys:
        increment(key)


def with_context(usage: UsageCounter, workload: Workload) -> None:
    increment = usage.increment
    for key in workload.keys:
        increment(key, context="fr", accepted=True)


def many_by_thousand(usage: UsageCounter, workload: Workload) -> None:
    for chunk in workload.chunks(1_000):
        usage.increment_many(chunk)


def many_by_fifty_thousand(usage: UsageCounter, workload: Workload) -> None:
    for chunk in workload.chunks(50_000):
        usage.increment_many(chunk)


def many_as_mapping(usage: UsageCounter, workload: Workload) -> None:
    """Building the mapping is part of the time."""
    for chunk in workload.chunks(50_000):
        usage.increment_many(Counter(chunk))


def _count_spooled(crew: RunningCrew, workload: Workload, caller: Caller) -> Sample:
    with short_directory() as directory:
        return crew.count(workload, caller, spool=directory / "spool")
