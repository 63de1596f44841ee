"""Engines on fresh, migrated databases."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from workers.database import create_engine, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@contextmanager
def opened_engine(url: str) -> Iterator[Engine]:
    """Open an engine as the crew does, and close its connections after the block."""
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def migrate_database(url: str) -> None:
    """Make the tables as the crew does."""
    with opened_engine(url) as engine:
        migrate(engine)
