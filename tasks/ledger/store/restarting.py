"""Putting many ended runs on their queues again in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tasks.ledger.states import Verdict, decide_retry
from tasks.ledger.store import changes
from tasks.ledger.store.queries import COLUMNS, read_run
from tasks.ledger.tables import JobRun
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Engine

    from tasks.ledger.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What came of wanting to restart a run."""

    run: Run
    """As it stands now."""
    verdict: Verdict


def restart_many(engine: Engine, run_ids: Sequence[str], *, now: datetime, detail: str) -> list[Restart]:
    """Restart those of the runs that may be, in one transaction, and say of each why or why not.

    Runs that are not there any more are left out.
    """
    wanted = select(*COLUMNS).where(JobRun.id.in_(run_ids)).order_by(JobRun.id).with_for_update()
    with begin_write(engine) as connection:
        verdicts = [(run, decide_retry(run)) for run in map(read_run, connection.execute(wanted).all())]
        ids = [run.id for run, verdict in verdicts if verdict.yes]
        # The rows are locked: all of these still stand as they were judged.
        restarted = {run.id: run for run in changes.restart_many(connection, ids, now=now, detail=detail)}
    return [Restart(run=restarted.get(run.id, run), verdict=verdict) for run, verdict in verdicts]
