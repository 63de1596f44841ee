"""Looks at the two servers: the broker and the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from tasks.transactions import begin_read
from workers.doctor.broker import BrokerFacts, Skew, read_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from redis import Redis
    from sqlalchemy import Engine

_MEASUREMENTS: Final = 3
# Bytes 18 and 19 say with which version the file is written and read: 2 is the write-ahead log
# (https://www.sqlite.org/fileformat2.html#file_format_version_numbers).
_WAL_VERSIONS: Final = b"\x02\x02"
_VERSIONS_AT: Final = slice(18, 20)
_DATABASE_CLOCKS: Final = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",  # the Julian day of 1970-01-01T00Z
}


def see_broker(redis: Redis) -> BrokerFacts:
    """Ask the broker about itself.

    Raises:
        RedisError: it does not answer.
    """
    return read_info(redis.info())


def broker_skew(redis: Redis, clock: Callable[[], datetime]) -> Skew:
    """Compare the broker's clock with ours.

    Raises:
        RedisError: it does not answer.
    """

    def ask() -> float:
        seconds, microseconds = redis.time()
        return seconds + microseconds / 1e6

    return measure_skew(ask, clock)


def database_skew(engine: Engine, clock: Callable[[], datetime]) -> Skew:
    """Compare the database's clock with ours.

    Raises:
        TransientError: it does not answer.
    """
    statement = text(_DATABASE_CLOCKS[engine.dialect.name])
    with begin_read(engine) as connection:
        return measure_skew(lambda: float(connection.execute(statement).scalar_one()), clock)


def measure_skew(ask: Callable[[], float], clock: Callable[[], datetime]) -> Skew:
    """Take the quickest of a few answers, and assume that it was given half-way (RFC 5905 section 8)."""
    return min((_measure_once(ask, clock) for _ in range(_MEASUREMENTS)), key=lambda skew: skew.round_trip_s)


def sqlite_file(engine: Engine) -> Path | None:
    """Give the file of the database; None for a server."""
    return Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None


def is_in_wal_mode(path: Path) -> bool:
    """Read it from the file: a connection of the crew's own kind would switch the mode on and hide what was."""
    with path.open("rb") as file:
        return file.read(_VERSIONS_AT.stop)[_VERSIONS_AT] == _WAL_VERSIONS


def _measure_once(ask: Callable[[], float], clock: Callable[[], datetime]) -> Skew:
    before = clock().timestamp()
    answer = ask()
    after = clock().timestamp()
    return Skew(seconds=answer - (before + after) / 2, round_trip_s=after - before)
