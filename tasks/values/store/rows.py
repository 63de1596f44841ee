"""Rows of the tables as values, and values as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tasks.values.tables import StoredValue
from tasks.values.values import DefaultValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row

    from tasks.values.values import Address

COLUMNS: Final = StoredValue.__table__.columns
AT_ONCE: Final = 400
"""Addresses in one statement: SQLite takes 999 parameters where it is old."""


def value_of(row: Row[Any]) -> DefaultValue:
    """Give the value of a row."""
    return DefaultValue(
        key=row.key,
        context=row.context,
        value=row.value,
        version=row.version,
        tags=tuple(row.tags),
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


def row_of(value: DefaultValue) -> dict[str, Any]:
    """Give the row of a value."""
    return {
        "key": value.key,
        "context": value.context,
        "value": value.value,
        "version": value.version,
        "tags": list(value.tags),
        "created_at": value.created_at,
        "updated_at": value.updated_at,
        "deleted_at": value.deleted_at,
    }


def batches(addresses: Sequence[Address]) -> Iterator[Sequence[Address]]:
    """Give addresses in pieces that fit into a statement."""
    for start in range(0, len(addresses), AT_ONCE):
        yield addresses[start : start + AT_ONCE]
