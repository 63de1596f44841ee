"""What a clock that ran ahead has put off in SQL, and the clock that all workers share: the database's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, or_, text, update

from tasks.ledger.states import State
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read, begin_write

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import ColumnElement, Connection, Engine
    from sqlalchemy.orm import QueryableAttribute

_NOW: Final = {
    "postgresql": text("SELECT extract(epoch FROM statement_timestamp())"),
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400"),
}


def database_time(engine: Engine) -> datetime:
    """Give the time by the clock of the database; SQLite has that of the machine."""
    with begin_read(engine) as connection:
        return _time(connection)


def judged_at(connection: Connection, now: datetime) -> datetime:
    """Give the instant by which others lose something: the earlier of a clock and the database's.

    A worker whose clock is ahead would take their runs from workers that live. On SQLite both are the machine's clock,
    and on PostgreSQL this is one statement: ask only where the own clock says that a time has passed.
    """
    return min(now, _time(connection)) if connection.dialect.name == "postgresql" else now


def also_passed(engine: Engine, column: QueryableAttribute[datetime | None]) -> tuple[ColumnElement[bool], ...]:
    """Give the condition that an instant has passed by the database's clock too; none where it is the machine's."""
    return (column <= func.statement_timestamp(),) if engine.dialect.name == "postgresql" else ()


def pull_back(engine: Engine, *, now: datetime, later_than: datetime, lease: timedelta) -> int:
    """Let what was written as later than an instant count as written now; give the count of runs.

    A lease ends when it would if it had been renewed now, which a worker that lives will do again. A queued run is
    published again. Slots before their time are left to the walk of the timetable.
    """
    running = JobRun.state == State.RUNNING, JobRun.heartbeat_at > later_than
    queued = (
        JobRun.state == State.QUEUED,
        or_(JobRun.published_at > later_than, JobRun.updated_at > later_than),
        or_(JobRun.slot_at.is_(None), JobRun.slot_at <= now),
    )
    with begin_write(engine) as connection:
        held = connection.execute(update(JobRun).where(*running).values(lease_until=now + lease, heartbeat_at=now))
        again = {"published_at": None, "republish_at": now, "updated_at": now}
        return held.rowcount + connection.execute(update(JobRun).where(*queued).values(again)).rowcount


def _time(connection: Connection) -> datetime:
    return datetime.fromtimestamp(float(connection.execute(_NOW[connection.dialect.name]).scalar_one()), UTC)
