"""What is always true of the tables of the access log."""

# ruff: noqa: S608  the queries are put together from what stands here alone

from __future__ import annotations

from typing import Final

from nightcrew.wire import MAX_FUTURE_HOURS
from tasks.invariants import Damage, Invariant, nothing_later_than_capture

_COUNTERS: Final = ("requests", "hits", "misses", "sets", "deletes", "bytes_read", "bytes_written", "dropped")

_SUMS: Final = Invariant(
    name="ttl.requests-hit-or-miss",
    says="each get of an hour hit or missed, nothing was counted below zero, and no hour counts nothing",
    tables=("cache_hours",),
    counted="SELECT count(*) FROM cache_hours",
    violations=f"""
        SELECT 'hour ' || hour || ' of ' || family || ': ' || hits || ' hits and ' || misses || ' misses of '
            || requests
        FROM cache_hours
        WHERE hits + misses <> requests OR {" OR ".join(f"{name} < 0" for name in _COUNTERS)}
            OR ({" AND ".join(f"{name} = 0" for name in _COUNTERS)})
    """,
    damages=(
        Damage(
            name="counters-negative",
            statements=("UPDATE cache_hours SET hits = -1, misses = requests + 1",),
            possible="SELECT 1 FROM cache_hours LIMIT 1",
        ),
        Damage(
            name="counters-lost",
            statements=(f"UPDATE cache_hours SET {', '.join(f'{name} = 0' for name in _COUNTERS)}",),
            possible="SELECT 1 FROM cache_hours LIMIT 1",
        ),
    ),
)

_HOURS: Final = Invariant(
    name="ttl.no-hour-in-the-future",
    says=f"no hour of the cache's counters lies more than {MAX_FUTURE_HOURS} hours ahead of the capture",
    tables=("cache_hours",),
    counted="SELECT count(*) FROM cache_hours",
    violations=f"""
        SELECT 'hour ' || hour || ' of ' || count(*) || ' families lies in the future' FROM cache_hours
        WHERE hour > :latest_hour + {MAX_FUTURE_HOURS} GROUP BY hour
    """,
    damages=(
        Damage(
            name="hour-far-ahead",
            statements=("UPDATE cache_hours SET hour = hour + 1000000",),
            possible="SELECT 1 FROM cache_hours LIMIT 1",
        ),
    ),
)

_DIGITS: Final = "'0123456789'"
_IS_ID: Final = (
    f"last_id LIKE '_%-_%' AND last_id NOT LIKE '%--%' AND rtrim(rtrim(rtrim(last_id, {_DIGITS}), '-'), {_DIGITS}) = ''"
)

_OFFSETS: Final = Invariant(
    name="ttl.offsets-well-formed",
    says="the offset names the log that it belongs to, and an entry as the log names its entries",
    tables=("access_offsets",),
    counted="SELECT count(*) FROM access_offsets",
    violations=f"""
        SELECT stream || ' stands at ' || last_id || ' of epoch "' || epoch || '"' FROM access_offsets
        WHERE epoch = '' OR NOT ({_IS_ID})
    """,
    damages=(
        Damage(
            name="epoch-lost",
            statements=("UPDATE access_offsets SET epoch = ''",),
            possible="SELECT 1 FROM access_offsets LIMIT 1",
        ),
        Damage(
            name="id-without-number",
            statements=("UPDATE access_offsets SET last_id = last_id || '-'",),
            possible="SELECT 1 FROM access_offsets LIMIT 1",
        ),
    ),
)

_PRODUCERS: Final = Invariant(
    name="ttl.producers-have-an-offset",
    says="what is known of a process belongs to a log with an offset, and to a shipment",
    tables=("access_producers", "access_offsets"),
    counted="SELECT count(*) FROM access_producers",
    violations="""
        SELECT 'process ' || producer || ' is at shipment ' || last_seq FROM access_producers
        WHERE last_seq < 1 OR NOT EXISTS (SELECT 1 FROM access_offsets)
    """,
    damages=(
        Damage(
            name="offset-lost",
            statements=("DELETE FROM access_offsets",),
            possible="SELECT 1 FROM access_producers LIMIT 1",
        ),
        Damage(
            name="shipment-before-the-first",
            statements=("UPDATE access_producers SET last_seq = 0",),
            possible="SELECT 1 FROM access_producers LIMIT 1",
        ),
    ),
)

INVARIANTS: Final = (
    _SUMS,
    _HOURS,
    _OFFSETS,
    _PRODUCERS,
    nothing_later_than_capture(
        "ttl",
        {"access_offsets": ["updated_at"], "access_producers": ["seen_at"], "access_incidents": ["happened_at"]},
    ),
)
