"""Replication slots: what makes the server keep its log for us.

A temporary one ends with the session that made it, whatever becomes of us. A lasting one holds the log from one point
of a chain to the next, and only where `max_slot_wal_keep_size` bounds what it can hold back: when backups stop for
good, the server gives the slot up by itself before its disk is full, and the next point is a full one.
"""

from __future__ import annotations

import re
import secrets
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tasks.backups.postgresql.positions import position_text
from tasks.backups.store.captures.postgresql.sessions import opened_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL, Connection

_PREFIX: Final = "nightcrew"
_NOT_IN_A_NAME: Final = re.compile(r"[^a-z0-9_]")


def slot_name(profile: str, database: str) -> str:
    """Name the lasting slot of a profile; slots belong to the whole server, so the database is in it too."""
    return f"{_PREFIX}_{_NOT_IN_A_NAME.sub('_', profile)}_{_mark(database)}"


def lasting_slots(connection: Connection, database: str) -> list[str]:
    """Name the lasting slots of all profiles of a database."""
    names = connection.exec_driver_sql("SELECT slot_name FROM pg_replication_slots WHERE NOT temporary").scalars()
    found = [name for name in names if name.startswith(f"{_PREFIX}_") and name.endswith(f"_{_mark(database)}")]
    connection.commit()
    return found


@contextmanager
def log_kept(url: URL) -> Iterator[Callable[[], None]]:
    """Have the server keep its log during the block, or until what is given is called; not a moment longer."""
    with opened_session(url) as connection:
        name = f"{_PREFIX}_{secrets.token_hex(6)}"
        connection.exec_driver_sql(f"SELECT pg_create_physical_replication_slot('{name}', true, true)")
        connection.commit()
        yield lambda: drop_slot(connection, name)


def keep_log(connection: Connection, name: str) -> None:
    """Have the server keep its log from now on, or from earlier if it does already."""
    states = connection.exec_driver_sql(
        f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{name}'"  # noqa: S608  a name of ours
    ).scalars()
    if not any(state != "lost" for state in states):
        drop_slot(connection, name)
        connection.exec_driver_sql(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    connection.commit()


def let_log_go(connection: Connection, name: str, *, before: int) -> None:
    """Allow the server to delete its log up to a place: everything before it is in the vault."""
    connection.exec_driver_sql(
        f"SELECT pg_replication_slot_advance('{name}', '{position_text(before)}'::pg_lsn)"  # noqa: S608
        f" FROM pg_replication_slots WHERE slot_name = '{name}' AND wal_status <> 'lost'"
        f" AND restart_lsn < '{position_text(before)}'::pg_lsn"
    )
    connection.commit()


def _mark(database: str) -> str:
    return f"{zlib.crc32(database.encode()):08x}"


def drop_slot(connection: Connection, name: str) -> None:
    """Take the slot away, if there is one: no increment can follow any more."""
    connection.exec_driver_sql(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"  # noqa: S608
    )
    connection.commit()
