"""Servers as they describe themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.backups.manifest import Database
from tasks.backups.postgresql.abilities import Server
from tasks.backups.postgresql.chain import Anchor

TOOLS_18 = {
    "pg_dump": 18,
    "pg_restore": 18,
    "pg_basebackup": 18,
    "pg_receivewal": 18,
    "pg_verifybackup": 18,
    "pg_combinebackup": 18,
}

_ABLE = Server(
    version="18.6",
    version_number=180006,
    role="nightcrew",
    database="nightcrew",
    system="7711241607333538186",
    timeline=1,
    segment_bytes=16 * 1024 * 1024,
    position="0/5000000",
    is_standby=False,
    may_replicate=True,
    refusal="",
    wal_level="replica",
    summarizes_wal=True,
    most_slots=10,
    slot_keeps_mib=2048,
    wal_keeps_mib=0,
    tablespaces=(),
    unlogged=(),
)


def server(**changes: Any) -> Server:
    """Give a server that can do everything, but for what is changed."""
    return replace(_ABLE, **changes)


def database(**changes: Any) -> Database:
    """Give what a point of that server has written down, with parts of its anchor changed."""
    anchor = Anchor(
        way="incremental-base-backup",
        system=_ABLE.system,
        timeline=1,
        segment_bytes=_ABLE.segment_bytes,
        major=18,
        database="nightcrew",
        role="nightcrew",
        until="0/4000000",
        marked="0/4000060",
    )
    return Database(
        engine="postgresql",
        server_version="18.6",
        method="base-backup",
        schema_sha256="0" * 64,
        migration_head="0003",
        tables=(),
        details=anchor.model_copy(update=changes).model_dump(),
    )
