"""Restore tests in SQL: what they found, and what follows from it for their points, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, true

from tasks.backups.drills.records import Drill, Moment, Timing
from tasks.backups.drills.verdicts import Check, MutantResult, Verdict, kill_rate
from tasks.backups.points import PointState
from tasks.backups.store import listing, points
from tasks.backups.tables import StoredDrill, StoredPoint
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Engine, Row

    from tasks.backups.drills.records import Way
    from tasks.backups.points import RestorePoint
    from tasks.runtime import Attempt

_COLUMNS: Final = tuple(StoredDrill.__table__.columns)


class SqlDrillBook:
    """What is written down of drills. See `tasks.backups.drills.drill.Book` for what each method promises."""

    def __init__(
        self,
        engine: Engine,
        attempt: Attempt,
        *,
        note_proven: Callable[[Connection, Mapping[int, tuple[str, str]]], None],
        vault: str = listing.PRIMARY,
    ) -> None:
        """Write for this attempt of a run; `note_proven` hears, in the same transaction, what the log may forget."""
        self._engine = engine
        self._attempt = attempt
        self._note_proven = note_proven
        self._vault = vault

    def points(self) -> Sequence[RestorePoint]:
        """Give every point of the vault, the newest first."""
        return list(listing.every(self._engine, vault=self._vault))

    def tried(self) -> Mapping[str, datetime]:
        """Say by point when its last drill ended."""
        newest = select(StoredDrill.point_id, func.max(StoredDrill.finished_at).label("at")).where(
            StoredDrill.point_id.is_not(None)
        )
        with begin_read(self._engine) as connection:
            return {row.point_id: row.at for row in connection.execute(newest.group_by(StoredDrill.point_id))}

    def record(self, drill: Drill, point: RestorePoint | None) -> Drill:
        """Write a drill down with all that follows from it; a pass ends the run."""
        with begin_write(self._engine) as connection:
            judged = drill if point is None else self._follow(connection, drill, point)
            number = connection.scalar(insert(StoredDrill).values(**_row_of(judged)).returning(StoredDrill.id))
            recorded = replace(judged, id=number)
            if recorded.verdict is Verdict.PASS:
                self._attempt.complete_in(connection, recorded.to_summary())  # the row above has all of it
            else:
                self._attempt.guard(connection)
        return recorded

    def _follow(self, connection: Connection, drill: Drill, point: RestorePoint) -> Drill:
        """Do to the point what the verdict says, unless it is not the point any more that was drilled."""
        if drill.verdict is Verdict.INCONCLUSIVE:
            return drill
        query = select(StoredPoint.state, StoredPoint.state_reason).where(StoredPoint.id == point.id)
        row = connection.execute(query.with_for_update()).first()
        if row is None:
            return _undone(drill, "the point was deleted meanwhile")
        if drill.verdict is Verdict.FAIL:
            if drill.is_damaged:
                points.mark_damaged(connection, [point.id], reason=drill.reason)
            return drill
        if row.state == PointState.DAMAGED:
            if (row.state, row.state_reason) != (point.state, point.state_reason):
                return _undone(drill, f"the point was found damaged meanwhile: {row.state_reason}")
            points.mark_mended(connection, [point.id])  # it was thought damaged, and is as it was
        points.mark_proven(connection, point.id, at=drill.finished_at)
        positions = {number: (one.epoch, one.last_id) for number, one in point.log_positions.items()}
        self._note_proven(connection, positions)
        return drill


def list_drills(
    engine: Engine,
    *,
    limit: int | None = None,
    since: datetime | None = None,
    point_id: str | None = None,
    way: Way | None = None,
    verdict: Verdict | None = None,
) -> list[Drill]:
    """List what drills have found, the newest first.

    Raises:
        TransientError: the database is away.
    """
    conditions: list[ColumnElement[bool]] = [true()]
    if since is not None:
        conditions.append(StoredDrill.finished_at >= since)
    if point_id is not None:
        conditions.append(StoredDrill.point_id == point_id)
    if way is not None:
        conditions.append(StoredDrill.way == way)
    if verdict is not None:
        conditions.append(StoredDrill.verdict == verdict.value)
    query = select(*_COLUMNS).where(*conditions).order_by(StoredDrill.finished_at.desc(), StoredDrill.id.desc())
    with begin_read(engine) as connection:
        return [_drill_of(row) for row in connection.execute(query.limit(limit))]


def add_drill(engine: Engine, attempt: Attempt, drill: Drill) -> Drill:
    """Write down a drill from which nothing follows for any point; give it with its number."""
    with begin_write(engine) as connection:
        number = connection.scalar(insert(StoredDrill).values(**_row_of(drill)).returning(StoredDrill.id))
        attempt.guard(connection)
    return replace(drill, id=number)


def forget_drills(engine: Engine, *, before: datetime) -> int:
    """Forget what drills have found that ended before an instant; give how many there were."""
    with begin_write(engine) as connection:
        return connection.execute(delete(StoredDrill).where(StoredDrill.finished_at < before)).rowcount


def _undone(drill: Drill, reason: str) -> Drill:
    judged = f"{reason}; the drill said {drill.verdict.value}: {drill.reason}"
    moment = Moment(at=drill.finished_at, says=f"{Verdict.INCONCLUSIVE.value}: {reason}")
    return replace(drill, verdict=Verdict.INCONCLUSIVE, reason=judged, timeline=(*drill.timeline, moment))


def _row_of(drill: Drill) -> dict[str, Any]:
    rate, timing = kill_rate(drill.mutants), drill.timing
    return {
        "run_id": drill.run_id,
        "way": drill.way,
        "point_id": drill.point_id,
        "profile": drill.profile,
        "kind": drill.kind or "",
        "sequence": drill.sequence,
        "size_bytes": drill.size_bytes,
        "asked_at": drill.asked_at,
        "finished_at": drill.finished_at,
        "verdict": drill.verdict.value,
        "reason": drill.reason,
        "chosen_because": drill.chosen_because,
        "fetch_s": None if timing is None else timing.fetch_s,
        "apply_s": None if timing is None else timing.apply_s,
        "validate_s": None if timing is None else timing.validate_s,
        "rto_s": None if timing is None else timing.rto_s,
        "rpo_s": drill.rpo_s,
        "checks": [check.to_json() for check in drill.checks],
        "mutants": [mutant.to_json() for mutant in drill.mutants],
        "killed": rate.killed,
        "total": rate.total,
        "timeline": [moment.to_json() for moment in drill.timeline],
    }


def _drill_of(row: Row[Any]) -> Drill:
    timing = None
    if row.fetch_s is not None:
        timing = Timing(fetch_s=row.fetch_s, apply_s=row.apply_s, validate_s=row.validate_s)
    return Drill(
        id=row.id,
        run_id=row.run_id,
        way=row.way,
        point_id=row.point_id,
        profile=row.profile,
        kind=row.kind or None,
        sequence=row.sequence,
        size_bytes=row.size_bytes,
        asked_at=row.asked_at,
        finished_at=row.finished_at,
        verdict=Verdict(row.verdict),
        reason=row.reason,
        chosen_because=row.chosen_because,
        timing=timing,
        rpo_s=row.rpo_s,
        checks=tuple(_check_of(check) for check in row.checks),
        mutants=tuple(_mutant_of(mutant) for mutant in row.mutants),
        timeline=tuple(Moment.from_json(moment) for moment in row.timeline),
    )


def _check_of(values: Mapping[str, Any]) -> Check:
    given = {name: value for name, value in values.items() if name != "outcome"}
    return Check(**{**given, "differences": tuple(given["differences"])})


def _mutant_of(values: Mapping[str, Any]) -> MutantResult:
    return MutantResult(**{**values, "noticed_by": tuple(values["noticed_by"])})
