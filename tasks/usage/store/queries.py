"""Reading the counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from sqlalchemy import and_, func, literal, select, tuple_

from tasks.transactions import begin_read
from tasks.usage.position import Incident, Position
from tasks.usage.tables import UsageCount, UsageHour, UsageIncident, UsageOffset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from sqlalchemy import ColumnElement, Connection, Engine, Select

SortKey = Literal["total", "accepted", "rejected"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STREAMED_ROWS = 10_000
_ADDRESSES_AT_ONCE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """Counts of one key in one context since its last reset."""

    key: str
    context: str
    total: int
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """Uses of one key within one hour, over one context or all."""

    hour_at: datetime
    """Begin of the hour."""
    total: int
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """All counts together, and the history they must agree with."""

    keys: int
    total: int
    reset_total: int
    history_total: int
    """Equals `total + reset_total`, or something is wrong."""


class UsageQueries:
    """Reads counts; each method sees one moment of the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count(self, key: str, context: str | None = None) -> CountRow:
        """Give the counts of a key, in one context or over all of them; zero for a key that was never counted."""
        query = _summed(UsageCount).where(UsageCount.key == key)
        if context is not None:
            query = query.where(UsageCount.context == context)
        with begin_read(self._engine) as connection:
            total, accepted, rejected = map(int, connection.execute(query).one())
        return CountRow(key=key, context=context or "", total=total, accepted=accepted, rejected=rejected)

    def counts_of(self, addresses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], CountRow]:
        """Give the counts of each of these keys and contexts that was ever counted."""
        found: dict[tuple[str, str], CountRow] = {}
        columns = (UsageCount.key, UsageCount.context, UsageCount.total, UsageCount.accepted, UsageCount.rejected)
        with begin_read(self._engine) as connection:
            for start in range(0, len(addresses), _ADDRESSES_AT_ONCE):
                some = addresses[start : start + _ADDRESSES_AT_ONCE]
                query = select(*columns).where(tuple_(UsageCount.key, UsageCount.context).in_(some))
                for key, context, total, yes, no in connection.execute(query):
                    row = CountRow(key=key, context=context, total=int(total), accepted=int(yes), rejected=int(no))
                    found[key, context] = row
        return found

    def top(self, limit: int, *, context: str | None = None, by: SortKey = "total") -> list[CountRow]:
        """Give the keys used most, over all contexts unless one is named."""
        sums = [func.sum(getattr(UsageCount, name)).label(name) for name in ("total", "accepted", "rejected")]
        order = {"total": sums[0], "accepted": sums[1], "rejected": sums[2]}[by]
        query = select(UsageCount.key, *sums).group_by(UsageCount.key).order_by(order.desc(), UsageCount.key)
        if context is not None:
            query = query.where(UsageCount.context == context)
        with begin_read(self._engine) as connection:
            return [
                CountRow(key=key, context=context or "", total=int(total), accepted=int(yes), rejected=int(no))
                for key, total, yes, no in connection.execute(query.limit(limit))
            ]

    def history(self, key: str, *, since: datetime, until: datetime, context: str | None = None) -> list[HourRow]:
        """Give the hours from `since` up to but without `until` in which the key was used, oldest first."""
        with begin_read(self._engine) as connection:
            oldest = connection.execute(select(func.min(UsageHour.hour))).scalar()
            if oldest is None:
                return []
            query = _hours_of(key, max(oldest, _hour(since)), _hour(until))
            if context is not None:
                query = query.where(UsageHour.context == context)
            return [
                HourRow(hour_at=_EPOCH + timedelta(hours=hour), total=int(total), accepted=int(yes), rejected=int(no))
                for hour, total, yes, no in connection.execute(query)
            ]

    def snapshot(self) -> Iterator[CountRow]:
        """Give every count as of one moment, ordered by key and context; the moment lasts until the last is read."""
        query = select(
            UsageCount.key, UsageCount.context, UsageCount.total, UsageCount.accepted, UsageCount.rejected
        ).order_by(UsageCount.key, UsageCount.context)
        with begin_read(self._engine) as connection:
            for row in _streamed(connection, query):
                yield CountRow(
                    key=row.key, context=row.context, total=row.total, accepted=row.accepted, rejected=row.rejected
                )

    def sums(self) -> Sums:
        """Add everything up."""
        counted = select(func.count(), _zero(UsageCount.total), _zero(UsageCount.reset_total))
        with begin_read(self._engine) as connection:
            keys, total, reset_total = connection.execute(counted).one()
            history = connection.execute(select(_zero(UsageHour.total))).scalar_one()
        return Sums(keys=keys, total=int(total), reset_total=int(reset_total), history_total=int(history))

    def positions(self) -> dict[int, Position]:
        """Give the committed position of each partition."""
        query = select(UsageOffset).order_by(UsageOffset.partition)
        with begin_read(self._engine) as connection:
            return {
                row.partition: Position(epoch=row.epoch, last_id=row.last_id, proven_id=row.proven_id)
                for row in connection.execute(query)
            }

    def incidents(self, *, since: datetime) -> list[tuple[datetime, int, Incident]]:
        """Give what happened to the log, with its moment and partition, newest first."""
        query = select(UsageIncident).where(UsageIncident.happened_at >= since).order_by(UsageIncident.id.desc())
        with begin_read(self._engine) as connection:
            return [
                (row.happened_at, row.partition, Incident(kind=row.kind, detail=row.detail))
                for row in connection.execute(query)
            ]


def _summed(table: type[UsageCount | UsageHour], *leading: ColumnElement[Any] | Any) -> Select[Any]:
    return select(*leading, _zero(table.total), _zero(table.accepted), _zero(table.rejected))


def _hours_of(key: str, first: int, end: int) -> Select[Any]:
    """Look the key up in each hour: the table is ordered by hour, so one range would read every key's rows."""
    hours = select(literal(first).label("hour")).where(literal(first) < end).cte("hours", recursive=True)
    hours = hours.union_all(select(hours.c.hour + 1).where(hours.c.hour + 1 < end))
    found = and_(UsageHour.hour == hours.c.hour, UsageHour.key == key)
    query = _summed(UsageHour, UsageHour.hour).select_from(hours.join(UsageHour, found))
    return query.group_by(UsageHour.hour).order_by(UsageHour.hour)


def _zero(column: Any) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _streamed(connection: Connection, query: Any) -> Iterator[Any]:
    return iter(connection.execution_options(yield_per=_STREAMED_ROWS).execute(query))


def _hour(instant: datetime) -> int:
    return int(instant.timestamp() // 3600)
