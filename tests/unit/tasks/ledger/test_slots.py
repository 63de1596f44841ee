"""The names of the run of a slot."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import hypothesis.strategies as st
from hypothesis import given

from tasks.ledger.runs import is_job_id
from tasks.ledger.slots import slot_job_id, slot_key

SLOT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_key_names_entry_and_instant() -> None:
    """The key reads as what it is, in UTC wherever it was worked out."""
    assert slot_key("nightly", SLOT) == "nightly:2026-03-01T12:00:00+00:00"
    assert slot_key("nightly", SLOT.astimezone(timezone(timedelta(hours=5)))) == slot_key("nightly", SLOT)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  the bounds are naive, the drawn values are not
def test_id_is_a_version_7_of_the_slot(slot: datetime) -> None:
    """The id sorts by the time of the slot, and no two are the same: a slot may have to be run again."""
    job_id = slot_job_id(slot)
    assert is_job_id(job_id)
    assert uuid.UUID(job_id).version == 7
    assert uuid.UUID(job_id).int >> 80 == int(slot.timestamp() * 1000)
    assert job_id != slot_job_id(slot)
