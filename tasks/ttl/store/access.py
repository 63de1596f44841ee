"""The access log in Redis, and its counters in SQL: a page and the offset behind it, in one transaction."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import delete, exists, select, update
from sqlalchemy import exc as sql_errors
from sqlalchemy.dialects import postgresql, sqlite

from nightcrew import wire
from nightcrew.messages import CollectAccess
from tasks.errors import TransientError
from tasks.ledger.dead_letters import letter_of_entry
from tasks.ledger.tables import DeadLetter
from tasks.transactions import begin_read, begin_write
from tasks.ttl.accesses import BEGINNING, COUNTERS, read_logged
from tasks.ttl.collecting import AccessPage, AccessPosition, RefusedCountersError
from tasks.ttl.tables import AccessIncident as IncidentRow
from tasks.ttl.tables import AccessOffset, AccessProducer, CacheHour

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, timedelta

    from redis import Redis
    from sqlalchemy import Connection, Engine

    from tasks.ttl.accesses import Counted, RawEntry, RejectedEntry
    from tasks.ttl.collecting import AccessIncident, Applied

_WINDOW_ENTRIES: Final = 100
"""Entries read at once for the study: some megabytes."""


class RedisAccessLog:
    """The log; apps write it, see `nightcrew/cache/access.lua`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def read(self, *, after: str, count: int) -> AccessPage:
        """Read what follows a position.

        Epoch, sums, ids and entries come from one transaction: read apart, an entry that came in between would
        look as if it were missing.
        """
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(wire.ACCESS_META, "epoch")
            pipe.hgetall(wire.ACCESS_TOTALS)
            pipe.xinfo_stream(wire.ACCESS_LOG)
            pipe.xrange(wire.ACCESS_LOG, min=f"({after}", count=count)
            epoch, totals, info, entries = pipe.execute(raise_on_error=False)
        last_id = BEGINNING
        if not (isinstance(info, ResponseError) and "no such key" in str(info)):
            last_id = _answered(info)["last-generated-id"].decode()
        found: list[tuple[bytes, Mapping[bytes, bytes]]] = _answered(entries)
        return AccessPage(
            epoch=(_answered(epoch) or b"").decode(errors="replace"),
            last_generated_id=last_id,
            logged=read_logged(_answered(totals)),
            entries=[(entry_id.decode(), told) for entry_id, told in found],
            is_last=len(found) < count,
        )

    def advance_ids(self, entry_id: str) -> None:
        """See to it that the next entry gets a greater id than this one, after the log lost its newest entries."""
        with _redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            # XSETID would need the stream to exist; an entry that comes and goes leaves its id behind all the same.
            pipe.xadd(wire.ACCESS_LOG, {"v": "0"}, id=entry_id)
            pipe.xdel(wire.ACCESS_LOG, entry_id)
            added = pipe.execute(raise_on_error=False)[0]
        if isinstance(added, ResponseError) and "equal or smaller" not in str(added):
            raise added

    def entries_since(self, since: datetime) -> Iterator[RawEntry]:
        """Give the entries that were logged since an instant, by the clock of Redis, oldest first."""
        start = str(int(since.timestamp() * 1000))
        while True:
            with _redis_errors():
                answer: Any = self._redis.xrange(wire.ACCESS_LOG, min=start, count=_WINDOW_ENTRIES)
            yield from ((entry_id.decode(), fields) for entry_id, fields in answer)
            if len(answer) < _WINDOW_ENTRIES:
                return
            start = f"({answer[-1][0].decode()}"

    def keep_to(self, *, keep: timedelta, cap_bytes: int, now: datetime) -> int:
        """Tell the apps what the log keeps, and forget what is older; give the number of entries forgotten.

        The apps trim it as they write, by age and by size; this is for the time when none of them does.
        """
        keep_ms = int(keep.total_seconds() * 1000)
        oldest = f"{int(now.timestamp() * 1000) - keep_ms}-0"
        with _redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(wire.ACCESS_META, mapping={"keep_ms": str(keep_ms), "cap_bytes": str(cap_bytes)})
            pipe.xtrim(wire.ACCESS_LOG, minid=oldest, approximate=False)
            return int(pipe.execute()[1])


class SqlAccessCounters:
    """Writes counters; SQLite and PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def position(self) -> AccessPosition | None:
        """Give the committed position, None before the first collection."""
        query = select(AccessOffset.epoch, AccessOffset.last_id, AccessOffset.settled)
        with begin_read(self._engine) as connection:
            row = connection.execute(query.where(AccessOffset.stream == wire.ACCESS_LOG)).one_or_none()
        return None if row is None else AccessPosition(epoch=row.epoch, last_id=row.last_id, settled=row.settled)

    def last_sequences(self, producers: Iterable[str]) -> dict[str, int]:
        """Give each producer's newest entry that is contained in the counters.

        Read it after `position`: whoever moves it also moves the position, which `apply` checks.
        """
        query = select(AccessProducer.producer, AccessProducer.last_seq)
        with begin_read(self._engine) as connection:
            rows = connection.execute(query.where(AccessProducer.producer.in_(list(producers))))
            return {row.producer: row.last_seq for row in rows}

    def apply(
        self,
        counted: Counted,
        *,
        expected: AccessPosition | None,
        position: AccessPosition,
        now: datetime,
        incidents: Iterable[AccessIncident] = (),
    ) -> Applied:
        """Write what was read behind `expected`, and the new position, or nothing at all.

        Raises:
            RefusedCountersError: the counters themselves are refused; an entry has to be left out.
            TransientError: the database is away or locked for too long.
        """
        try:
            with begin_write(self._engine) as connection:
                if (found := _lock(connection, expected, now)) != "applied":
                    return found
                _write_hours(connection, counted)
                _write_sequences(connection, counted.sequences, now)
                _write_rejected(connection, counted.rejected, now)
                _write_incidents(connection, incidents, now)
                moved = update(AccessOffset).where(AccessOffset.stream == wire.ACCESS_LOG)
                settled = dict(position.settled)
                connection.execute(
                    moved.values(epoch=position.epoch, last_id=position.last_id, settled=settled, updated_at=now)
                )
        except (sql_errors.IntegrityError, sql_errors.DataError) as error:
            raise RefusedCountersError(str(error.orig)) from error
        return "applied"

    def forget(self, *, hours_before: int, producers_before: datetime, incidents_before: datetime) -> int:
        """Delete old counters, incidents, and what is known of processes that were silent since; give the count.

        An entry of such a process that comes again counts again: neither Redis nor this table would know it.
        """
        old = (
            (CacheHour, CacheHour.hour < hours_before),
            (AccessProducer, AccessProducer.seen_at < producers_before),
            (IncidentRow, IncidentRow.happened_at < incidents_before),
        )
        with begin_read(self._engine) as connection:
            found = [pair for pair in old if connection.scalar(select(exists().where(pair[1])))]
        if not found:
            return 0
        with begin_write(self._engine) as connection:
            return sum(connection.execute(delete(table).where(is_old)).rowcount for table, is_old in found)

    def hours(self, *, since_hour: int) -> list[dict[str, Any]]:
        """Give the counters of each family and hour since one, oldest first, as columns by their names."""
        query = select(CacheHour.__table__).where(CacheHour.hour >= since_hour)
        with begin_read(self._engine) as connection:
            rows = connection.execute(query.order_by(CacheHour.hour, CacheHour.family))
            return [dict(row) for row in rows.mappings()]


def _lock(connection: Connection, expected: AccessPosition | None, now: datetime) -> Applied:
    """Take the log's row for this transaction and see whether it is still where the page begins."""
    if expected is None:
        fresh = {"stream": wire.ACCESS_LOG, "epoch": "", "last_id": BEGINNING, "settled": {}, "updated_at": now}
        connection.execute(_insert(connection, AccessOffset).values(fresh).on_conflict_do_nothing())
    query = select(AccessOffset.epoch, AccessOffset.last_id, AccessOffset.settled)
    query = query.where(AccessOffset.stream == wire.ACCESS_LOG)
    row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return "busy"
    # What is settled as well: a loss is told at a place where the offset need not move.
    stands = AccessPosition(epoch=row.epoch, last_id=row.last_id, settled=row.settled)
    return "applied" if stands == (expected or AccessPosition(epoch="")) else "superseded"


def _write_hours(connection: Connection, counted: Counted) -> None:
    rows = [
        {"hour": hour, "family": family, **asdict(tally)} for (hour, family), tally in sorted(counted.hours.items())
    ]
    if not rows:
        return
    insert = _insert(connection, CacheHour)
    sums = {name: getattr(CacheHour, name) + insert.excluded[name] for name in COUNTERS}
    connection.execute(insert.on_conflict_do_update(index_elements=["hour", "family"], set_=sums), rows)


def _write_sequences(connection: Connection, sequences: Mapping[str, int], now: datetime) -> None:
    rows = [{"producer": one, "last_seq": seq, "seen_at": now} for one, seq in sorted(sequences.items())]
    if not rows:
        return
    insert = _insert(connection, AccessProducer)
    newer = {"last_seq": insert.excluded.last_seq, "seen_at": insert.excluded.seen_at}
    connection.execute(insert.on_conflict_do_update(index_elements=["producer"], set_=newer), rows)


def _write_rejected(connection: Connection, rejected: Iterable[RejectedEntry], now: datetime) -> None:
    rows = []
    for entry in rejected:
        letter = letter_of_entry(source=wire.ACCESS_LOG, fields=entry.fields, reason=entry.reason, received_at=now)
        rows.append({**asdict(letter), "kind": CollectAccess.kind, "source_id": f"{wire.ACCESS_LOG}/{entry.id}"})
    if rows:
        connection.execute(_insert(connection, DeadLetter).on_conflict_do_nothing(), rows)


def _write_incidents(connection: Connection, incidents: Iterable[AccessIncident], now: datetime) -> None:
    rows = [{"kind": one.kind, "detail": one.detail, "happened_at": now} for one in incidents]
    if rows:
        connection.execute(_insert(connection, IncidentRow), rows)


def _insert(connection: Connection, table: type) -> Any:
    """Choose the insert that knows ON CONFLICT in this dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        msg = f"broker is in the way: {error}"
        raise TransientError(msg) from error


def _answered(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer
