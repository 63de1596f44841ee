"""How increments of a PostgreSQL server can be taken, or in words why they cannot.

From 17 on a server can send the blocks that have changed since an older base backup, if it keeps summaries of its
write-ahead log. Any server can send the log itself, and a base backup plus the log since then is an increment too; the
server must be kept from deleting the log meanwhile, without ever filling its disk with it when backups stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Way = Literal["incremental-base-backup", "wal"]
"""Changed blocks and a little log · the whole log since the parent."""

OLDEST_MAJOR: Final = 13
"""The first version with manifests of base backups."""
FIRST_WITH_SUMMARIES: Final = 17

_UNLIMITED: Final = -1
_PHYSICAL_TOOLS: Final = ("pg_basebackup", "pg_receivewal", "pg_verifybackup")
_NAMES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself, and of what the role that we are may do there."""

    version: str
    version_number: int
    """As `server_version_num`: 180006 for 18.6."""
    role: str
    database: str
    system: str
    """What tells this cluster from all others: its system identifier."""
    timeline: int
    """Grows by one with each promotion of a standby, and with each recovery to a point in time."""
    segment_bytes: int
    position: str
    """Where its write-ahead log ends."""
    is_standby: bool
    may_replicate: bool
    """Whether the role is a superuser or has REPLICATION."""
    refusal: str
    """What it says to a replication connection; empty if it takes one."""
    wal_level: str
    summarizes_wal: bool
    most_slots: int
    """`max_replication_slots`."""
    slot_keeps_mib: int
    """`max_slot_wal_keep_size`: the log that a forgotten slot can hold back; -1 for all of it."""
    wal_keeps_mib: int
    """`wal_keep_size`: the log that is kept in any case."""
    tablespaces: Sequence[str]
    """Those beside the two that each cluster has."""
    unlogged: Sequence[str]
    """Tables of this database that are not in the write-ahead log."""

    @property
    def major(self) -> int:
        """The number before the dot."""
        return self.version_number // 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """Whether increments can be taken, and how."""

    way: Way | None
    reason: str
    """Why this way, or why none and what to do about it."""
    keeps_slot: bool = False
    """Whether a replication slot makes the server keep the log from one point to the next."""


def judge(server: Server, tools: Mapping[str, int]) -> Ability:
    """Decide how increments are taken from a server with these tools (major version by name)."""
    for obstacle in _OBSTACLES:
        if reason := obstacle(server, tools):
            return Ability(way=None, reason=reason)
    if _sends_changed_blocks(server, tools):
        return Ability(way="incremental-base-backup", reason="the server summarizes its write-ahead log")
    if server.slot_keeps_mib > 0:
        return Ability(way="wal", reason=f"base backup and log: {_why_no_blocks(server, tools)}", keeps_slot=True)
    if server.wal_keeps_mib > 0:
        return Ability(way="wal", reason=f"the server keeps {server.wal_keeps_mib} MiB of its log (wal_keep_size)")
    return Ability(
        way=None,
        reason=f"{_why_no_blocks(server, tools)}, and nothing bounds the log that a replication slot holds back: "
        "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()",
    )


def _standby(server: Server, _: Mapping[str, int]) -> str:
    return "the server is a standby; increments are taken from the primary" if server.is_standby else ""


def _no_replication(server: Server, _: Mapping[str, int]) -> str:
    if server.may_replicate:
        return ""
    return f'the role {server.role} has no REPLICATION: ALTER ROLE "{server.role}" REPLICATION'


def _thin_log(server: Server, _: Mapping[str, int]) -> str:
    if server.wal_level in {"replica", "logical"}:
        return ""
    return f"wal_level is {server.wal_level}: ALTER SYSTEM SET wal_level = 'replica', then restart the server"


def _no_slots(server: Server, _: Mapping[str, int]) -> str:
    if server.most_slots:
        return ""
    return "max_replication_slots is 0: ALTER SYSTEM SET max_replication_slots = 10, then restart the server"


def _refused(server: Server, _: Mapping[str, int]) -> str:
    if not server.refusal:
        return ""
    return f"the server takes no replication connection ({server.refusal}): add a line for `replication` to pg_hba.conf"


def _old(server: Server, _: Mapping[str, int]) -> str:
    return f"PostgreSQL {server.major} writes no backup manifest" if server.major < OLDEST_MAJOR else ""


def _elsewhere(server: Server, _: Mapping[str, int]) -> str:
    if not server.tablespaces:
        return ""
    return f"the server has tablespaces of its own ({_some(server.tablespaces)}), which are not supported"


def _not_in_log(server: Server, _: Mapping[str, int]) -> str:
    if not server.unlogged:
        return ""
    return f"not in the write-ahead log: {_some(server.unlogged)}: ALTER TABLE {server.unlogged[0]} SET LOGGED"


def _no_tool(server: Server, tools: Mapping[str, int]) -> str:
    missing = [name for name in _PHYSICAL_TOOLS if name not in tools]
    if not missing:
        return ""
    return f"{', '.join(missing)} not found: sudo apt-get install postgresql-{server.major}"


_OBSTACLES: Final[tuple[Callable[[Server, Mapping[str, int]], str], ...]] = (
    _standby,
    _no_replication,
    _thin_log,
    _no_slots,
    _refused,
    _old,
    _elsewhere,
    _not_in_log,
    _no_tool,
)


def _sends_changed_blocks(server: Server, tools: Mapping[str, int]) -> bool:
    # What puts the increments together reads files of exactly its own major version.
    return (
        server.major >= FIRST_WITH_SUMMARIES
        and server.summarizes_wal
        and tools["pg_basebackup"] >= FIRST_WITH_SUMMARIES
        and tools.get("pg_combinebackup") == server.major
    )


def _why_no_blocks(server: Server, tools: Mapping[str, int]) -> str:
    if server.major < FIRST_WITH_SUMMARIES:
        return f"PostgreSQL {server.major} sends no changed blocks"
    if not server.summarizes_wal:
        return "summarize_wal is off (ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf())"
    found = tools.get("pg_combinebackup")
    return f"pg_combinebackup of version {server.major} not found" + (f", only of {found}" if found else "")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
