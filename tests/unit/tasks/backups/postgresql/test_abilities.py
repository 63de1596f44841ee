"""How increments of a server are taken, or in words why they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.backups.postgresql.abilities import judge
from tests.unit.tasks.backups.postgresql.servers import TOOLS_18, server

_LEFT_OUT = {name: version for name, version in TOOLS_18.items() if name != "pg_receivewal"}


def test_a_server_that_summarizes_its_log_sends_changed_blocks() -> None:
    """From 17 on, with summaries on, the server sends what has changed; nothing keeps its log between two points."""
    ability = judge(server(), TOOLS_18)
    assert ability.way == "incremental-base-backup"
    assert not ability.keeps_slot


@pytest.mark.parametrize(
    ("changes", "tools", "reason"),
    [
        ({"version_number": 150018, "summarizes_wal": False}, {**TOOLS_18, "pg_combinebackup": 15}, "PostgreSQL 15"),
        ({"summarizes_wal": False}, TOOLS_18, "SET summarize_wal = on"),
        ({}, {**TOOLS_18, "pg_combinebackup": 17}, "pg_combinebackup of version 18 not found, only of 17"),
        ({}, {name: 18 for name in TOOLS_18 if name != "pg_combinebackup"}, "pg_combinebackup of version 18 not found"),
        ({"version_number": 170002}, TOOLS_18, "pg_combinebackup of version 17 not found"),
    ],
)
def test_without_them_the_log_itself_is_kept(changes: dict[str, Any], tools: dict[str, int], reason: str) -> None:
    """Whatever is missing for changed blocks, the log will do, and the reason says what was missing."""
    ability = judge(server(**changes), tools)
    assert ability.way == "wal"
    assert ability.keeps_slot
    assert reason in ability.reason


def test_a_slot_is_made_only_where_the_server_bounds_it() -> None:
    """Nothing bounds what a slot holds back: there is none, and no increment, unless the server keeps log anyway."""
    unbounded = {"summarizes_wal": False, "slot_keeps_mib": -1}
    refused = judge(server(**unbounded), TOOLS_18)
    assert refused.way is None
    assert "SET max_slot_wal_keep_size = '10GB'" in refused.reason
    keeping = judge(server(**unbounded, wal_keeps_mib=4096), TOOLS_18)
    assert (keeping.way, keeping.keeps_slot) == ("wal", False)
    assert "4096 MiB" in keeping.reason


@pytest.mark.parametrize(
    ("changes", "tools", "reason"),
    [
        ({"is_standby": True}, TOOLS_18, "is a standby"),
        ({"may_replicate": False}, TOOLS_18, 'ALTER ROLE "nightcrew" REPLICATION'),
        ({"wal_level": "minimal"}, TOOLS_18, "SET wal_level = 'replica'"),
        ({"most_slots": 0}, TOOLS_18, "SET max_replication_slots = 10"),
        ({"refusal": "no pg_hba.conf entry"}, TOOLS_18, "no pg_hba.conf entry"),
        ({"version_number": 120005}, TOOLS_18, "PostgreSQL 12 writes no backup manifest"),
        ({"tablespaces": ("fast",)}, TOOLS_18, "tablespaces of its own (fast)"),
        ({"unlogged": tuple("abcde")}, TOOLS_18, "a, b, c and 2 more: ALTER TABLE a SET LOGGED"),
        ({}, _LEFT_OUT, "pg_receivewal not found: sudo apt-get install postgresql-18"),
        ({}, {}, "pg_basebackup, pg_receivewal, pg_verifybackup not found"),
    ],
)
def test_what_is_in_the_way_of_increments_is_named(changes: dict[str, Any], tools: dict[str, int], reason: str) -> None:
    """A reason is enough for an operator to take it away."""
    ability = judge(server(**changes), tools)
    assert ability.way is None
    assert reason in ability.reason
