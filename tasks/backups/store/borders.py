"""Where in the usage log restore points stand: what its compaction must leave as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tasks.backups.tables import StoredPoint
from tasks.transactions import begin_read

if TYPE_CHECKING:
    from sqlalchemy import Engine


def log_borders(engine: Engine, partition: int, epoch: str) -> frozenset[str]:
    """Name the entries of a partition at which points stand that are kept, whatever is known of them otherwise.

    A point of another epoch goes on with another log.

    Raises:
        TransientError: the database is away.
    """
    with begin_read(engine) as connection:
        every = connection.scalars(select(StoredPoint.log_positions)).all()
    found = (positions.get(str(partition)) for positions in every)
    return frozenset(one["last_id"] for one in found if one is not None and one["epoch"] == epoch)
