"""Tables of the values slice."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations at run time
from typing import Any

from sqlalchemy import JSON, ForeignKeyConstraint, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from tasks.schema import Base, UtcDateTime

# In the order of code points on either database: pages and prefixes go by it. SQLite's own order is that of the bytes.
Ordered = Text().with_variant(Text(collation="C"), "postgresql")


class StoredValue(Base):
    """A default value as it is now, or was when it was deleted. See `tasks.values.values.DefaultValue`."""

    __tablename__ = "default_values"
    __table_args__ = (
        Index(None, "updated_at", "key", "context"),
        Index(None, "created_at", "key", "context"),
        Index(None, "deleted_at"),
    )

    key: Mapped[str] = mapped_column(Ordered, primary_key=True)
    context: Mapped[str] = mapped_column(Ordered, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    version: Mapped[int] = mapped_column(Integer)
    tags: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ValueTag(Base):
    """A tag of a value, for looking values up by it."""

    __tablename__ = "default_value_tags"
    __table_args__ = (
        ForeignKeyConstraint(["key", "context"], ["default_values.key", "default_values.context"], ondelete="CASCADE"),
        Index(None, "key", "context"),
        {"sqlite_with_rowid": False},
    )

    tag: Mapped[str] = mapped_column(Ordered, primary_key=True)
    key: Mapped[str] = mapped_column(Ordered, primary_key=True)
    context: Mapped[str] = mapped_column(Ordered, primary_key=True)


class ValueChange(Base):
    """One version of a value: who made it what, and when. What is purged keeps its line and loses its content."""

    __tablename__ = "default_value_changes"
    __table_args__ = (Index(None, "at"),)

    key: Mapped[str] = mapped_column(Ordered, primary_key=True)
    context: Mapped[str] = mapped_column(Ordered, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(Text)
    """`create`, `update`, `delete` or `purge`."""
    actor: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    value: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    """What it was from then on, as `{"is": VALUE}`; NULL for a deletion, and once it is purged."""
    tags: Mapped[list[str]] = mapped_column(JSON)
