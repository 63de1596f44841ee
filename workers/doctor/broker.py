"""Checks of the broker: version, what it does when memory ends, what it keeps on disk, its clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.doctor.limits import Limits

OLDEST_VERSION: Final = (7, 0)
_MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """How far a clock is ahead of ours; the answer took `round_trip_s`, so the skew is unsure by half of that."""

    seconds: float
    round_trip_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """What the server says about itself."""

    server: str
    """`Redis` or `Valkey`."""
    version: str
    """Of the server under its own name."""
    compatible: tuple[int, int]
    """The version of Redis whose commands it has."""
    eviction: str
    """`maxmemory-policy`."""
    memory_bytes: int
    memory_limit_bytes: int
    """0: none."""
    aof_enabled: bool
    aof_writes: bool
    """Whether the last write to its file went well."""

    @property
    def is_persistent(self) -> bool:
        """Whether it keeps what it has accepted, up to the last second."""
        return self.aof_enabled and self.aof_writes


def read_info(info: Mapping[str, Any]) -> BrokerFacts:
    """Make the facts of an answer to INFO."""
    redis_version = str(info.get("redis_version", "0.0"))
    is_valkey = "valkey_version" in info or info.get("server_name") == "valkey"
    return BrokerFacts(
        server="Valkey" if is_valkey else "Redis",
        version=str(info.get("valkey_version", redis_version)),
        compatible=_major_minor(redis_version),
        eviction=str(info.get("maxmemory_policy", "unknown")),
        memory_bytes=int(info.get("used_memory", 0)),
        memory_limit_bytes=int(info.get("maxmemory", 0)),
        aof_enabled=bool(info.get("aof_enabled", 0)),
        aof_writes=info.get("aof_last_write_status", "ok") == "ok",
    )


def check_broker(facts: BrokerFacts, url: str, limits: Limits) -> Iterator[Finding]:
    """Judge version, eviction, persistence and memory; `url` is only for the commands that mend them."""
    cli = redis_cli(url)
    yield _check_version(facts)
    yield _check_eviction(facts, cli)
    yield _check_persistence(facts, cli)
    yield _check_memory(facts, limits, cli)


def check_clock(check: str, skew: Skew, limits: Limits, *, whose: str) -> Finding:
    """Judge how far a server's clock is from ours, beyond what the measurement is unsure of."""
    detail = f"the clock of {whose} is {skew.seconds:+.3f} s off (±{skew.round_trip_s / 2:.3f} s)"
    if abs(skew.seconds) - skew.round_trip_s / 2 <= limits.clock_skew.total_seconds():
        return ok(check, detail)
    return warning(check, detail, fix="timedatectl set-ntp true   # on both machines")


def redis_cli(url: str) -> str:
    """Give the command that reaches this server; its password, if it has one, is asked for."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    user = unquote(parts.username or "") or query.get("username", "")
    login = f" --user {quote(user)}" if user else ""
    ask = f"{login} --askpass" if parts.password or "password" in query else ""
    if parts.scheme in {"unix", "redis+socket"}:
        return f"redis-cli -s '{parts.path}'{ask}"
    files = {"ssl_ca_certs": "--cacert", "ssl_certfile": "--cert", "ssl_keyfile": "--key"}
    named = [f" {option} {quote(query[name])}" for name, option in files.items() if name in query]
    tls = f" --tls{''.join(named)}" if parts.scheme == "rediss" else ""
    return f"redis-cli -h {parts.hostname} -p {parts.port or 6379}{tls}{ask}"


def _check_version(facts: BrokerFacts) -> Finding:
    detail = f"{facts.server} {facts.version}"
    if facts.compatible >= OLDEST_VERSION:
        return ok("broker-version", detail)
    needed = ".".join(map(str, OLDEST_VERSION))
    fix = "apt-get install redis-server   # or unset NIGHTCREW_BROKER__URL and let the crew start its own"
    return error("broker-version", f"{detail} is older than Redis {needed}", fix=fix)


def _check_eviction(facts: BrokerFacts, cli: str) -> Finding:
    if facts.eviction == "noeviction":
        return ok("broker-eviction", "noeviction")
    detail = f"maxmemory-policy is {facts.eviction}: when memory ends, jobs and counts vanish in silence"
    return error("broker-eviction", detail, fix=_set(cli, "maxmemory-policy noeviction"))


def _check_persistence(facts: BrokerFacts, cli: str) -> Finding:
    if not facts.aof_enabled:
        detail = "it keeps no append-only file: a restart forgets jobs and counts"
        return error("broker-persistence", detail, fix=_set(cli, "appendonly yes"))
    if not facts.aof_writes:
        detail = "the last write to its append-only file failed: it refuses new jobs and counts"
        return error("broker-persistence", detail, fix=f'df -h "$({cli} CONFIG GET dir | tail -n 1)"')
    return ok("broker-persistence", "append-only file, last write went well")


def _check_memory(facts: BrokerFacts, limits: Limits, cli: str) -> Finding:
    used = f"{facts.memory_bytes / _MIB:,.1f} MiB used"
    if not facts.memory_limit_bytes:
        return ok("broker-memory", f"{used}, no limit set")
    share = facts.memory_bytes / facts.memory_limit_bytes
    detail = f"{used}, {share:.0%} of maxmemory"
    if share < limits.full_memory_share:
        return ok("broker-memory", detail)
    fix = _set(cli, f"maxmemory {2 * facts.memory_limit_bytes}")
    is_full = share >= (1 + limits.full_memory_share) / 2
    return (error if is_full else warning)("broker-memory", detail, fix=fix)


def _set(cli: str, setting: str) -> str:
    return f"{cli} CONFIG SET {setting} && {cli} CONFIG REWRITE"


def _major_minor(version: str) -> tuple[int, int]:
    numbers = re.findall(r"\d+", version)[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == len(OLDEST_VERSION) else (0, 0)
