"""What the usage slice forgets, and what it does not write down twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select

from nightcrew._usage_log import PRODUCER_TTL_S
from tasks.transactions import begin_read, begin_write
from tasks.usage.position import Incident
from tasks.usage.store import SqlUsageCounts, UsageQueries
from tasks.usage.tables import UsageIncident, UsageProducer
from workers.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_silent_producers_and_old_incidents_go(engine: Engine) -> None:
    """Each goes when its time is over, and not before."""
    with begin_write(engine) as connection:
        for days in (9, 11):
            seen = {"partition": 0, "producer": f"p{days}", "last_seq": 1, "seen_at": NOW - days * DAY}
            connection.execute(insert(UsageProducer).values(seen))
            happened = {"partition": 0, "kind": "log_gap", "detail": f"{days}", "happened_at": NOW - days * DAY}
            connection.execute(insert(UsageIncident).values(happened))
    counts = SqlUsageCounts(engine)
    assert counts.forget(producers_before=NOW - 20 * DAY, incidents_before=NOW - 20 * DAY) == 0
    assert counts.forget(producers_before=NOW - 10 * DAY, incidents_before=NOW - 10 * DAY) == 2
    with begin_read(engine) as connection:
        assert connection.scalars(select(UsageProducer.producer)).all() == ["p9"]
        assert connection.scalars(select(UsageIncident.detail)).all() == ["9"]


def test_producer_outlives_its_key_in_redis(tmp_path: Path) -> None:
    """As long as Redis takes a repeated flush for one, the database must too; no setting gets below that."""
    too_short = {"NIGHTCREW_USAGE__KEEP_PRODUCERS_S": str(PRODUCER_TTL_S)}
    with pytest.raises(SettingsError, match="keep_producers_s"):
        load_settings(tmp_path, env=too_short)
    assert load_settings(tmp_path, env={}).usage.options().keep_producers > timedelta(seconds=PRODUCER_TTL_S) + DAY


def test_incident_that_goes_on_is_one(engine: Engine) -> None:
    """A log that stays over its cap for days leaves one row with its latest words; another kind or a break, another."""
    counts = SqlUsageCounts(engine)
    for minute in range(0, 3 * 24 * 60, 50):
        over = Incident(kind="log_over_cap", detail=f"{minute} bytes are over the cap")
        counts.report(0, over, NOW + timedelta(minutes=minute))
    assert shown(engine) == ["4300 bytes are over the cap"]
    end = NOW + 3 * DAY
    counts.report(1, Incident(kind="log_over_cap", detail="another partition"), end)
    counts.report(0, Incident(kind="trimmed_unproven", detail="another kind"), end)
    counts.report(0, Incident(kind="trimmed_unproven", detail="after a break"), end + timedelta(hours=2))
    assert len(shown(engine)) == 4


def shown(engine: Engine) -> list[str]:
    return [incident.detail for _, _, incident in UsageQueries(engine).incidents(since=NOW - DAY)]
