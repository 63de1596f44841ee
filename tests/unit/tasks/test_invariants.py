"""What the invariants themselves must be: named, breakable, and complete where instants are concerned."""

from __future__ import annotations

import re

import pytest

from tasks.backups.tables import StoredDrill
from tasks.invariants import Damage, Invariant
from tasks.ledger.tables import JobRun
from tasks.schema import Base, UtcDateTime
from tasks.usage.tables import UsageOffset
from workers.lifecycle import INVARIANTS

NAME = re.compile(r"(ttl|usage|values|ledger|backups)(\.[a-z]+(-[a-z]+)*)")

PLANS_AND_STRANGE_CLOCKS = {
    "job_runs.lease_until",
    "job_runs.republish_at",
    "job_runs.published_at",
    "job_runs.slot_at",
    "job_runs.late_after",
    "job_runs.start_before",
    "job_runs.enqueued_at",
    "resource_leases.lease_until",
    "schedule_entries.paused_until",
    "pings.try_at",
    "dead_letters.received_at",
    "usage_counts.reset_at",
    "restore_points.taken_at",
    "restore_points.finished_at",
    "restore_point_copies.stored_at",
}
"""Instants that may lie ahead, or that a clock of somebody else has shown."""


def test_names_are_those_of_slices_and_unlike() -> None:
    """A name says whose it is, and what: reports and mutants are told apart by it."""
    names = [one.name for one in INVARIANTS]
    assert len(set(names)) == len(names) > 17
    assert all(NAME.fullmatch(name) for name in names)
    for one in INVARIANTS:
        damages = [damage.name for damage in one.damages]
        assert len(set(damages)) == len(damages) > 0
        assert not one.says.endswith(".")


def test_one_that_nobody_can_break_is_refused() -> None:
    """Nobody would know whether it ever finds anything."""
    with pytest.raises(ValueError, match="say how it is broken"):
        Invariant(name="usage.x", says="x", tables=(), counted="SELECT 0", violations="SELECT 0")


def test_tables_are_there() -> None:
    """What an invariant says that it reads is a table, and is read."""
    assert {UsageOffset.__tablename__, JobRun.__tablename__, StoredDrill.__tablename__} <= Base.metadata.tables.keys()
    for one in INVARIANTS:
        assert set(one.tables) <= Base.metadata.tables.keys()
        for table in one.tables:
            assert re.search(rf"\b{table}\b", one.violations), f"{one.name} does not read {table}"


def test_every_instant_is_of_the_past_or_a_plan() -> None:
    """Whoever adds an instant decides whether it may lie ahead of a capture."""
    instants = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, UtcDateTime)
    }
    late = (one for one in INVARIANTS if one.name.endswith("nothing-later-than-capture"))
    claimed = {name for one in late for name in instants if f"'{name} lies" in one.violations}
    assert claimed | PLANS_AND_STRANGE_CLOCKS == instants
    assert not claimed & PLANS_AND_STRANGE_CLOCKS


def test_damage_says_what_it_takes() -> None:
    """Damage that cannot be done is told as that, by a query for it."""
    for one in INVARIANTS:
        for damage in one.damages:
            assert isinstance(damage, Damage)
            assert damage.possible.startswith("SELECT 1 ")
            assert damage.statements
