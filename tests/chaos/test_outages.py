"""A nightly slot whose second falls into an outage runs once and late, or is missed and told, as its entry says."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tasks.ledger.states import OUTCOMES, State
from tasks.ledger.tables import JobRun, RunEvent, ScheduleState
from tasks.transactions import begin_read, begin_write
from tests.chaos.nightly import GRACE, SLOT_VARIABLE, nightly_entries
from tests.chaos.sabotage import Saboteur
from tests.chaos.working import RECONCILE_S, WorkingCrew, working_crew
from tests.support import wait_until
from tests.support.waiting import pause

_START_S = 60.0
"""For the crew to be ready before the slot."""
_MARGIN = timedelta(seconds=2)
_PATIENCE_S = 2 * RECONCILE_S + 30


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "member", ["worker-ledger", *(pytest.param(name, marks=pytest.mark.chaos) for name in ("broker", "beat"))]
)
def test_a_nightly_slot_in_an_outage_is_caught_up_or_told(member: str, seed: int) -> None:
    """The member is killed again and again from before the slot until after its grace."""
    slot = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=_START_S)
    caught_up, never = nightly_entries(slot)
    with working_crew({SLOT_VARIABLE: slot.isoformat()}) as crew:
        know_since_yesterday(crew, caught_up.name, never.name)
        keep_down(crew, member, slot, random.Random(seed))
        wait_until(lambda: len(outcomes(crew, slot)) == 2, timeout_s=_PATIENCE_S, what="both outcomes")
        ended = {row.entry: row for row in outcomes(crew, slot)}
        crew.asked += [row.id for row in ended.values()]
        crew.assert_exact(expected={ended[never.name].id: State.MISSED})
        assert ended[caught_up.name].first_started_at > ended[caught_up.name].late_after
        assert told(crew, ended[never.name].id, entry=never.name), "nobody was told of the missed slot"


def know_since_yesterday(crew: WorkingCrew, *names: str) -> None:
    """Let the ledger have seen the entries before: the past of an entry that is new is nobody's fault."""
    now = datetime.now(UTC)
    with begin_write(crew.engine) as connection:
        connection.execute(sa.insert(ScheduleState), [{"name": name, "walked_until": now} for name in names])


def keep_down(crew: WorkingCrew, member: str, slot: datetime, chance: random.Random) -> None:
    """Kill a member whenever it comes back, from shortly before the slot until after its grace."""
    saboteur, begins_at = Saboteur(crew.process, chance), slot - _MARGIN
    assert datetime.now(UTC) < begins_at, "the crew was not ready in time"
    pause((begins_at - datetime.now(UTC)).total_seconds())
    while datetime.now(UTC) < slot + GRACE + _MARGIN:
        saboteur.kill_whole(member)
        if member == "beat":  # or it would remember by itself that it has not sent the slot
            (crew.directory / "beat-schedule.json").unlink(missing_ok=True)
    assert not outcomes(crew, slot), "the slot was not in the outage"


def outcomes(
    crew: WorkingCrew, slot: datetime
) -> list[sa.Row[tuple[str, str | None, datetime | None, datetime | None]]]:
    """Give the runs of the slot that have ended."""
    query = sa.select(JobRun.id, JobRun.entry, JobRun.first_started_at, JobRun.late_after).where(
        JobRun.slot_at == slot, JobRun.kind.like("chaos.%"), JobRun.state.in_(sorted(OUTCOMES))
    )
    with begin_read(crew.engine) as connection:
        return list(connection.execute(query))


def told(crew: WorkingCrew, run_id: str, *, entry: str) -> bool:
    """Say whether the timeline gives a reason and the worker's log has the error, with the name of the entry."""
    query = sa.select(RunEvent.detail).where(RunEvent.run_id == run_id, RunEvent.event == "missed")
    with begin_read(crew.engine) as connection:
        reasons = connection.scalars(query).all()
    log = (crew.directory / "logs" / "worker-ledger.log").read_text(encoding="utf-8").splitlines()
    errors = [line for line in log if "ledger.slots_missed" in line or "ledger.run_missed" in line]
    return bool(reasons and reasons[0]) and any(entry in line for line in errors)
