"""The restore points of one vault in SQL, as the jobs of the backups need them.

Every transaction is conditional on the hold on the run: a worker that has lost its lease writes nothing any more.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tasks.backups.points import PointState
from tasks.backups.storage import KEPT
from tasks.backups.store import listing, points, watching
from tasks.backups.tables import StoredPoint
from tasks.errors import TransientError
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from tasks.backups.adoption import Found
    from tasks.backups.backup import Taken
    from tasks.backups.points import RestorePoint
    from tasks.backups.storage import Check, Measure
    from tasks.runtime import Attempt


class SqlBook:
    """What is written down of a vault."""

    def __init__(self, engine: Engine, vault: str, attempt: Attempt, clock: Callable[[], datetime]) -> None:
        """Write for this attempt of a run about the vault of this name."""
        self._engine = engine
        self._vault = vault
        self._attempt = attempt
        self._clock = clock

    def points(self) -> Sequence[RestorePoint]:
        """Give every point of the vault, the newest first."""
        return list(listing.every(self._engine, vault=self._vault))

    def adopt(self, found: Found) -> None:
        """Write a point down, or the new name of its snapshot."""
        with self._begin_write() as connection:
            self._adopt(connection, found.point, run_id=found.manifest.run, stored_at=found.snapshot.stored_at)

    def mark_damaged(self, point_id: str, reason: str) -> None:
        """Write down that a point cannot be restored."""
        with self._begin_write() as connection:
            points.mark_damaged(connection, [point_id], reason=reason)

    def checks(self) -> Sequence[Check]:
        """Give what checks of the vault have found, as long as that is kept."""
        return watching.checks(self._engine, self._vault, since=self._clock() - KEPT)

    def note_check(self, check: Check) -> None:
        """Write down what a check has found."""
        with self._begin_write() as connection:
            watching.record_check(connection, check, vault=self._vault)

    def record(self, taken: Taken, measure: Measure, result: Mapping[str, Any]) -> None:
        """Write down a point, the size of the vault, and the success of the run."""
        with begin_write(self._engine) as connection:
            self._adopt(connection, taken.point, run_id=taken.run_id, stored_at=taken.point.finished_at)
            points.note_verified(connection, [taken.point.id], vault=self._vault, at=measure.measured_at)
            watching.record_measure(connection, measure, vault=self._vault)
            self._attempt.complete_in(connection, dict(result))

    def delete(self, point_ids: Collection[str]) -> None:
        """Forget points of the vault, all or none; one that another vault has as well stays in the list.

        Raises:
            TransientError: somebody has just told to hold one of them: decide again.
            LeaseLostError: another worker may hold the run by now.
        """
        with self._begin_write() as connection:
            _check_not_held(connection, point_ids)
            points.forget_copies(connection, point_ids, vault=self._vault)

    def note_copy(self, point_id: str, snapshot_id: str) -> None:
        """Write down that the vault has a point, with every file at its size."""
        now = self._clock()
        with self._begin_write() as connection:
            points.note_copy(connection, point_id, vault=self._vault, snapshot_id=snapshot_id, stored_at=now)
            points.note_verified(connection, [point_id], vault=self._vault, at=now)

    def _adopt(self, connection: Connection, point: RestorePoint, *, run_id: str, stored_at: datetime) -> None:
        found = points.FoundPoint(point=point, stored_at=stored_at, run_id=run_id)
        points.adopt(connection, [found], vault=self._vault)

    @contextmanager
    def _begin_write(self) -> Iterator[Connection]:
        with begin_write(self._engine) as connection:
            yield connection
            self._attempt.guard(connection)


class SqlSecondBook(SqlBook):
    """The same of a second vault: what is wrong with one of the two says nothing of the other."""

    def points(self) -> Sequence[RestorePoint]:
        """Give every point of the vault; one that the first vault has lost counts here as any other."""
        damaged = PointState.DAMAGED
        return [
            replace(point, state=PointState.STORED, state_reason="") if point.state is damaged else point
            for point in super().points()
        ]

    def mark_damaged(self, point_id: str, reason: str) -> None:
        """Forget that this vault has the point, and that is all; the caller has told of it."""
        del reason
        self.delete([point_id])


def _check_not_held(connection: Connection, point_ids: Collection[str]) -> None:
    held = select(StoredPoint.id).where(StoredPoint.id.in_(sorted(point_ids)), StoredPoint.is_held)
    if found := connection.scalars(held.with_for_update()).all():
        msg = f"{', '.join(found)} is held since it was decided to let it go"
        raise TransientError(msg)
