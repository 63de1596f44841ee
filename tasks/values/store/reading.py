"""Finding values: by address, page by page, and what became of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  a field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, false, func, select, tuple_

from tasks.transactions import begin_read
from tasks.values.listing import Page, end_of_prefix, instant_of, mark_of
from tasks.values.store.rows import COLUMNS, batches, value_of
from tasks.values.tables import StoredValue, ValueChange, ValueTag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine, Select

    from tasks.values.listing import Listing, Mark
    from tasks.values.values import Address, DefaultValue

_STREAMED_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailLine:
    """One version of a value."""

    version: int
    action: str
    """`create`, `update`, `delete` or `purge`."""
    actor: str
    at: datetime
    value: Any
    """What it was from then on; None where it was deleted, or its content purged."""
    has_value: bool
    """Tells a value that is null from one that is not there."""
    tags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give it with the keys that `values history --json` documents."""
        line = {"version": self.version, "action": self.action, "actor": self.actor, "at": self.at.isoformat()}
        return line | {"value": self.value, "has_value": self.has_value, "tags": list(self.tags)}


class SqlValueReader:
    """Reads values; each method sees one moment of the database and raises TransientError while it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_many(self, addresses: Sequence[Address], *, with_deleted: bool = False) -> dict[Address, DefaultValue]:
        """Give those of these values that are there."""
        found: dict[Address, DefaultValue] = {}
        with begin_read(self._engine) as connection:
            for some in batches(sorted(set(addresses))):
                query = select(*COLUMNS).where(tuple_(StoredValue.key, StoredValue.context).in_(some))
                if not with_deleted:
                    query = query.where(StoredValue.deleted_at.is_(None))
                found |= {value.address: value for value in map(value_of, connection.execute(query))}
        return found

    def page(self, listing: Listing) -> Page:
        """Give a page of values."""
        query = _ordered(_filtered(select(*COLUMNS), listing), listing)
        if (start := listing.start) is not None:
            query = query.where(_behind(start, listing))
        with begin_read(self._engine) as connection:
            values = [value_of(row) for row in connection.execute(query.limit(listing.limit + 1))]
        whole = values[: listing.limit]
        is_last = len(values) <= listing.limit
        return Page(values=whole, next=None if is_last else mark_of(whole[-1], listing).to_text(listing))

    def count(self, listing: Listing) -> int:
        """Count the values of all pages."""
        with begin_read(self._engine) as connection:
            query = _filtered(select(func.count()).select_from(StoredValue), listing)
            return int(connection.execute(query).scalar_one())

    def each(self, listing: Listing) -> Iterator[DefaultValue]:
        """Give all values as of one moment, which lasts until the last is read; `limit` and `after` do not count."""
        query = _ordered(_filtered(select(*COLUMNS), listing), listing)
        with begin_read(self._engine) as connection:
            for row in connection.execution_options(yield_per=_STREAMED_ROWS).execute(query):
                yield value_of(row)

    def trail(self, address: Address) -> list[TrailLine]:
        """Give the versions of a value, the newest first."""
        key, context = address
        here = and_(ValueChange.key == key, ValueChange.context == context)
        query = select(*ValueChange.__table__.columns).where(here).order_by(ValueChange.version.desc())
        with begin_read(self._engine) as connection:
            return [
                TrailLine(
                    version=row.version,
                    action=row.action,
                    actor=row.actor,
                    at=row.at,
                    value=None if row.value is None else row.value["is"],
                    has_value=row.value is not None,
                    tags=tuple(row.tags),
                )
                for row in connection.execute(query)
            ]


def _filtered(query: Select[Any], listing: Listing) -> Select[Any]:
    if listing.prefix:
        query = query.where(StoredValue.key >= listing.prefix)
        if (end := end_of_prefix(listing.prefix)) is not None:
            query = query.where(StoredValue.key < end)
    if listing.context is not None:
        query = query.where(StoredValue.context == listing.context)
    if listing.tag is not None:
        tagged = select(ValueTag.key, ValueTag.context).where(ValueTag.tag == listing.tag)
        query = query.where(tuple_(StoredValue.key, StoredValue.context).in_(tagged))
    if listing.updated_since is not None:
        query = query.where(StoredValue.updated_at >= listing.updated_since)
    if listing.deleted == "with":
        return query
    gone = StoredValue.deleted_at.is_not(None)
    return query.where(gone if listing.deleted == "only" else ~gone)


def _sorted_by(listing: Listing) -> list[ColumnElement[Any]]:
    address: list[Any] = [StoredValue.key, StoredValue.context]
    return address if listing.sort == "key" else [getattr(StoredValue, listing.sort), *address]


def _ordered(query: Select[Any], listing: Listing) -> Select[Any]:
    return query.order_by(*(one.desc() if listing.descending else one.asc() for one in _sorted_by(listing)))


def _behind(start: Mark, listing: Listing) -> ColumnElement[bool]:
    place: list[Any] = []
    if start.place is not None:
        place = [start.place if listing.sort == "version" else instant_of(start.place)]
    # Column by column: a row comparison does not know that an instant is a number on SQLite.
    ends = list(zip(_sorted_by(listing), [*place, start.key, start.context], strict=True))
    behind: ColumnElement[bool] = false()
    for column, end in reversed(ends):
        behind = (column < end if listing.descending else column > end) | ((column == end) & behind)
    return behind
