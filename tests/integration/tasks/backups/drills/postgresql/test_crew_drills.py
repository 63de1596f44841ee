"""A crew on PostgreSQL drills its points from end to end: dump, increment, Redis, files and its own invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tasks.backups.drills.verdicts import Verdict, kill_table
from tasks.backups.operations.drilling import drill_point
from tests.integration.tasks.backups.test_runs_postgresql import crew
from workers.lifecycle import INVARIANTS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.integration.tasks.backups.crew import Crew

__all__ = ["crew"]

_COUNTERS = sa.text(
    "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables"
    " WHERE relname NOT IN ('drills', 'restore_points') ORDER BY relname"
)
_DATABASES = sa.text("SELECT datname FROM pg_database ORDER BY datname")


def _counted(engine: Engine) -> tuple[list[object], list[object]]:
    """Give what was ever written to the tables that a drill has no business in, and the databases of the server."""
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        connection.rollback()
        return list(connection.execute(_COUNTERS)), list(connection.execute(_DATABASES).scalars())


@pytest.mark.long
def test_a_chain_is_proven_and_the_server_is_not_touched(crew: Crew) -> None:
    """Every mutant of every artefact is rejected; the live server has neither a new database nor a changed row."""
    crew.full()
    crew.change_some()
    crew.incremental()
    runtime = replace(crew.runtime, invariants=INVARIANTS)
    before = _counted(crew.engine)
    for point in crew.points():
        drill = drill_point(runtime, point.id)
        assert (drill.verdict, drill.reason) == (Verdict.PASS, drill.reason), drill.to_json()
        table = kill_table(drill.mutants)
        print({artefact: str(rate) for artefact, rate in table.items()})  # noqa: T201  for whoever runs it with -s
        assert {"postgresql", "redis", "files", "invariants", "chain", "vault", "key"} <= table.keys()
    assert _counted(crew.engine) == before
    assert all(point.proven_at is not None for point in crew.points())
