"""A crew gets over whatever befalls it, and nothing is lost or done twice meanwhile."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.deeds import DoDeed, UseResource, WorkLong
from tests.chaos.faults import (
    crashed_database,
    cut_connections,
    frozen_worker,
    full_broker,
    full_disk,
    silent_broker,
)
from tests.chaos.sabotage import Saboteur
from tests.chaos.working import LEASE_S, WorkingCrew, working_crew
from tests.support.databases import migrate_database
from tests.support.postgres import running_postgres
from tests.support.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.faults import Fault

_PATIENCE_S = 150.0
_NOTHING_TAKEN = (full_broker, silent_broker)
_JOBS = 40
_LASTS_S = LEASE_S + 2
"""Longer than a lease: whoever held a run has lost it when the fault is over."""


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_each_fault_passes_without_a_loss_on_sqlite(seed: int) -> None:
    """In an order that the seed decides, with jobs at work when it strikes."""
    faults: list[Fault] = [full_disk, full_broker, silent_broker, frozen_worker, cut_connections]
    with working_crew() as crew:
        befall(crew, faults, random.Random(seed))


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.skipif("NIGHTCREW_TEST_PG_URL" in os.environ, reason="a server of somebody else's is not killed")
def test_a_crash_of_the_database_passes_without_a_loss(seed: int) -> None:
    """The server is one of the test's own."""
    with (
        # Elsewhere a commit may return before it is written: here a crash would take it along.
        running_postgres({"synchronous_commit": "on"}) as cluster,
        cluster.database(migrate_database) as url,
        working_crew({"NIGHTCREW_LEDGER__WORKER_PROCESSES": "2"}, database_url=url) as crew,
    ):
        befall(crew, [crashed_database], random.Random(seed))


def befall(crew: WorkingCrew, faults: Sequence[Fault], chance: random.Random) -> None:
    """Let one fault after the other strike; after each, compare what was done with what was asked for."""
    saboteur, lines = Saboteur(crew.process, chance), [f"{'fault':<20}{'jobs':>6}{'redone':>8}{'all done after':>16}"]
    for fault in chance.sample(faults, len(faults)):
        asked, (redone, _) = len(crew.asked), crew.attempts_beyond_the_first()
        crew.ask([WorkLong(seconds=2.0), *[UseResource(seconds=0.3)] * 4, *(DoDeed() for _ in range(_JOBS))])
        pause(chance.uniform(0, 1))
        with fault(crew):
            if fault not in _NOTHING_TAKEN:
                crew.ask([DoDeed() for _ in range(_JOBS)])
            pause(_LASTS_S)
        over_s = time.monotonic()
        crew.ask([DoDeed() for _ in range(_JOBS)])
        saboteur.settle()
        crew.wait_until_done(timeout_s=_PATIENCE_S)
        took_s = time.monotonic() - over_s
        crew.assert_exact()
        more = crew.attempts_beyond_the_first()[0] - redone
        lines.append(f"{fault.__name__:<20}{len(crew.asked) - asked:>6}{more:>8}{took_s:>14.1f} s")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
