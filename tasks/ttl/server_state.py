"""What a Redis server says of itself, as far as a scan has to know it.

Pure: the answer to INFO goes in. https://redis.io/docs/latest/commands/info/ names its fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NO_TOUCH_SINCE: Final = (7, 2)
_FORKS: Final = {
    "rdb_bgsave_in_progress": "it writes a dump",
    "aof_rewrite_in_progress": "it rewrites its append-only file",
    "module_fork_in_progress": "a module of it has forked",
    "loading": "it loads its data",
    "async_loading": "it loads its data",
    "master_sync_in_progress": "it is copied from its primary",
}
_MOST_LAG_S: Final = 10

INSIDE_SCRIPTS: Final = frozenset({"scan", "pttl", "object|idletime", "memory|usage"})
"""Commands whose time is part of the script's that ran them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One moment of a server."""

    version: str
    run_id: str
    is_replica: bool
    is_cluster: bool
    primary: tuple[str, int] | None
    """Address of its primary, where it is a replica and the link is up."""
    replicas: Sequence[tuple[str, int]]
    """Addresses of replicas that are near in time."""
    policy: str
    keys: int
    """Of the database, those that are expired and not deleted yet included."""
    fields_expire: bool
    """Whether keys have fields with a time to live of their own."""
    hits: int
    misses: int
    commands: Mapping[str, tuple[int, int]] = field(repr=False)
    """Name to calls and microseconds since the start of the server."""

    @property
    def knows_no_touch(self) -> bool:
        """Whether `CLIENT NO-TOUCH` exists."""
        return version_of(self.version) >= _NO_TOUCH_SINCE

    @property
    def keeps_idle_times(self) -> bool:
        """Whether it knows when a key was last used; by a policy of least frequent use it counts instead."""
        return "lfu" not in self.policy

    @property
    def is_evicting(self) -> bool:
        """Whether it makes room by itself when its memory is full."""
        return self.policy not in {"", "noeviction"}

    @classmethod
    def from_info(cls, info: Mapping[str, Any], database: int) -> ServerState:
        """Read the answer to `INFO all`, as redis-py gives it."""
        keyspace = info.get(f"db{database}", {})
        is_replica = info.get("role") == "slave"
        has_link = is_replica and info.get("master_link_status") == "up"
        return cls(
            # Valkey tells the version of Redis that it stands for in redis_version.
            version=str(info.get("valkey_version") or info.get("redis_version", "0")),
            run_id=str(info.get("run_id", "")),
            is_replica=is_replica,
            is_cluster=bool(info.get("cluster_enabled")),
            primary=(str(info["master_host"]), int(info["master_port"])) if has_link else None,
            replicas=[
                (str(one["ip"]), int(one["port"]))
                for name, one in info.items()
                if name.removeprefix("slave").isdecimal() and name.startswith("slave") and _is_near(one)
            ],
            policy=str(info.get("maxmemory_policy", "")),
            keys=int(keyspace.get("keys", 0)),
            fields_expire=any(int(keyspace.get(name, 0)) for name in ("subexpiry", "keys_with_volatile_items")),
            hits=int(info.get("keyspace_hits", 0)),
            misses=int(info.get("keyspace_misses", 0)),
            commands={
                name.removeprefix("cmdstat_"): (int(one["calls"]), int(one["usec"]))
                for name, one in info.items()
                if name.startswith("cmdstat_")
            },
        )


def why_to_wait(info: Mapping[str, Any]) -> str | None:
    """Say what the server is at that a scan should not add to: INFO's part on persistence; None for nothing."""
    return next((reason for name, reason in _FORKS.items() if int(info.get(name) or 0)), None)


def memory_share(info: Mapping[str, Any]) -> float:
    """Give the share that is used of the memory that the server may use: INFO's part on memory."""
    limit = int(info.get("maxmemory") or 0) or int(info.get("total_system_memory") or 0)
    return int(info.get("used_memory") or 0) / limit if limit else 0.0


def own_ms(
    own: Mapping[str, int], before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]
) -> float | None:
    """Give the server's time for own calls, from its statistics of before and after; None where those were reset.

    Where others called the same commands meanwhile, each call counts as dear as the mean of all.
    """
    microseconds = 0.0
    for name, calls in own.items():
        # Before Redis 7.0 a command and its subcommands are one.
        known = name if name in after else name.partition("|")[0]
        all_calls, all_us = (
            late - early for late, early in zip(after.get(known, (0, 0)), before.get(known, (0, 0)), strict=True)
        )
        if all_calls < 0 or all_us < 0:
            return None
        microseconds += all_us * min(1.0, calls / all_calls) if all_calls else 0.0
    return microseconds / 1_000


def version_of(text: str) -> tuple[int, ...]:
    """Read a version such as 7.0.15."""
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


def _is_near(replica: Any) -> bool:
    if not isinstance(replica, dict) or replica.get("state") != "online":
        return False
    return int(replica.get("lag", 0)) <= _MOST_LAG_S
