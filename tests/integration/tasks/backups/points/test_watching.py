"""What is written down of checks and sizes of the vaults, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.backups.storage import KEPT, Check, Measure, NextSlice, foresee, next_slice
from tasks.backups.store import watching
from tasks.transactions import begin_write
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW

if TYPE_CHECKING:
    from sqlalchemy import Engine

EARLIEST = NOW - 500 * DAY
MEASURE = Measure(
    measured_at=NOW,
    points=3,
    stored_bytes=7 * 10**12,
    staged_bytes=8 * 10**12,
    size_bytes=9 * 10**12,
    free_bytes=None,
)
CHECK = Check(checked_at=NOW, slice=2, slices=30, is_sound=False, detail="pack 1f3c: hash is not 1f3c")


def write(engine: Engine, *facts: Check | Measure, vault: str = "primary") -> None:
    with begin_write(engine) as connection:
        for fact in facts:
            if isinstance(fact, Check):
                watching.record_check(connection, fact, vault=vault)
            else:
                watching.record_measure(connection, fact, vault=vault)


def test_checks_and_measures_come_back_as_they_were_written(engine: Engine) -> None:
    """Oldest first, of one vault, and no older than asked for."""
    structure = Check(checked_at=NOW - HOUR, slice=None, slices=None, is_sound=True)
    earlier = replace(MEASURE, measured_at=NOW - HOUR, free_bytes=10**12)
    write(engine, CHECK, structure, MEASURE, earlier)
    write(engine, replace(CHECK, slice=9), replace(MEASURE, points=9), vault="second")
    assert watching.checks(engine, "primary", since=EARLIEST) == [structure, CHECK]
    assert watching.checks(engine, "primary", since=NOW) == [CHECK]
    assert watching.measures(engine, "primary", since=EARLIEST) == [earlier, MEASURE]
    assert watching.measures(engine, "primary", since=NOW) == [MEASURE]
    assert watching.last_check(engine, "primary") == CHECK
    assert watching.last_check(engine, "third") is None


def test_what_was_written_down_decides(engine: Engine) -> None:
    """The damaged slice is read again, and the growth is worked out."""
    write(engine, CHECK, replace(CHECK, slice=1, is_sound=True))
    write(engine, *(replace(MEASURE, measured_at=NOW - day * DAY, stored_bytes=10**9 * (9 - day)) for day in range(5)))
    found = next_slice(watching.checks(engine, "primary", since=EARLIEST), 30)
    assert found == NextSlice(number=2, of=30, reason="it was damaged when it was last read")
    assert foresee(watching.measures(engine, "primary", since=EARLIEST), now=NOW).growth_bytes_per_day == 10**9


def test_what_is_older_than_400_days_is_forgotten(engine: Engine) -> None:
    """In batches, of every vault; the moment itself is still kept."""
    old, edge = NOW - KEPT - HOUR, NOW - KEPT
    many = watching.BATCH + 1
    write(
        engine, *(replace(CHECK, checked_at=old) for _ in range(many)), replace(CHECK, checked_at=edge), vault="second"
    )
    write(engine, replace(MEASURE, measured_at=old), replace(MEASURE, measured_at=edge))
    assert [watching.forget_old(engine, now=NOW) for _ in range(3)] == [watching.BATCH + 1, 1, 0]
    assert len(watching.checks(engine, "second", since=EARLIEST)) == 1
    assert len(watching.measures(engine, "primary", since=EARLIEST)) == 1
