"""What a crew that came back knows: its counts, its jobs, and the slots of its timetable."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from nightcrew import Nightcrew
from nightcrew.errors import JobError
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_read
from tasks.usage.store import UsageQueries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Engine

    from schedules.entries import Entry
    from tasks.backups.drills.disaster import Journal

_ENDED = frozenset({"succeeded"})


def counts_in(engine: Engine) -> dict[str, int]:
    """Give every count by key."""
    with closing(UsageQueries(engine).snapshot()) as rows:  # type: ignore[type-var]  # a generator
        return {row.key: row.total for row in rows}


def jobs_known(engine: Engine, url: str, journals: Iterable[Journal]) -> set[str]:
    """Give the accepted jobs that are done, by the ledger, or by the mirror that apps read.

    A job that was done between the restored point and the disaster is in the mirror alone.
    """
    wanted = {job for journal in journals for job in journal.jobs}
    query = select(JobRun.id).where(JobRun.state.in_(_ENDED))
    with begin_read(engine) as connection:
        known = wanted & set(connection.scalars(query))
    with Nightcrew(url) as app:
        return known | {job for job in wanted - known if _state_of(app, job) in _ENDED}


def slots_due(timetable: Mapping[str, Entry], *, after: datetime, until: datetime) -> set[tuple[str, datetime]]:
    """Name the slots of every entry in a time."""
    return {(name, slot) for name, entry in timetable.items() for slot in entry.slots_between(after, until)}


def slots_in(engine: Engine) -> Sequence[tuple[str, datetime]]:
    """Name the slots that have a line in the ledger, as often as they have one."""
    query = select(JobRun.entry, JobRun.slot_at).where(JobRun.slot_at.is_not(None))
    with begin_read(engine) as connection:
        return [(str(row.entry), row.slot_at.astimezone(UTC)) for row in connection.execute(query)]


def _state_of(app: Nightcrew, job: str) -> str | None:
    try:
        return app.job(job).state()
    except JobError:
        return None
