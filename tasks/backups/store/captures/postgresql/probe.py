"""What a server is asked before a backup: what it is, and what it lets us do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.backups.postgresql.abilities import Server
from tasks.backups.store.captures.postgresql.sessions import replication_refusal

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

_MIB: Final = 1024 * 1024
_NO_SUMMARIES: Final = "off"

_IDENTITY: Final = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
        current_user::text, current_database()::text, pg_is_in_recovery(),
        (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
        (SELECT system_identifier::text FROM pg_control_system()),
        (SELECT timeline_id FROM pg_control_checkpoint()),
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
"""
_SETTINGS: Final = """
    SELECT name, setting FROM pg_settings WHERE name IN
        ('wal_level', 'summarize_wal', 'max_slot_wal_keep_size', 'wal_keep_size', 'wal_segment_size',
        'max_replication_slots')
"""
_TABLESPACES: Final = (
    "SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"
)
_UNLOGGED: Final = """
    SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u' ORDER BY 1
"""


def probe(connection: Connection, url: URL) -> Server:
    """Ask the server, and try whether it takes a replication connection where the role may have one."""
    identity = connection.exec_driver_sql(_IDENTITY).one()
    version, number, role, database, is_standby, may_replicate, system, timeline, position = identity
    settings = {row.name: row.setting for row in connection.exec_driver_sql(_SETTINGS)}
    tablespaces = connection.exec_driver_sql(_TABLESPACES).scalars().all()
    unlogged = connection.exec_driver_sql(_UNLOGGED).scalars().all()
    connection.rollback()
    return Server(
        version=version,
        version_number=number,
        role=role,
        database=database,
        system=system,
        timeline=timeline,
        segment_bytes=int(settings.get("wal_segment_size", 16 * _MIB)),
        position=position,
        is_standby=is_standby,
        may_replicate=may_replicate,
        refusal=replication_refusal(url) if may_replicate else "",
        wal_level=settings["wal_level"],
        summarizes_wal=settings.get("summarize_wal", _NO_SUMMARIES) == "on",
        most_slots=int(settings["max_replication_slots"]),
        slot_keeps_mib=int(settings.get("max_slot_wal_keep_size", -1)),
        wal_keeps_mib=int(settings.get("wal_keep_size", 0)),
        tablespaces=tablespaces,
        unlogged=unlogged,
    )
