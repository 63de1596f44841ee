"""Which user of Redis may do what, as an ACL file of Redis 7.0 or Valkey.

Pure: values in, text out. Each role is a list of grants, and each grant becomes a selector of its own
(https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/#selectors), so that a command is
allowed on the keys of its purpose and on no others. What no grant names is refused.

What an ACL cannot tell apart are the arguments of a command: whoever may append to a stream may also trim it
(`XADD … MAXLEN`), and whoever may look at a queue sees what the messages say. `ops/security.md` draws the conclusions.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from nightcrew import wire
from workers.celery_config import TASK_QUEUES

if TYPE_CHECKING:
    from collections.abc import Mapping

RoleName = Literal["admin", "producer", "worker", "viewer", "scanner"]

ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)

UNKNOWN_HASH: Final = "0" * 64
"""Of no password that anybody knows."""

_SHORTEST_PASSWORD: Final = 16
_QUEUES: Final = tuple(sorted(TASK_QUEUES))

# A partition is a number below 64 (`usage.partitions`); written out, because `*` would let in the keys below it.
_PARTITIONS: Final = ("[0-9]", "[0-9][0-9]")
_STREAMS: Final = tuple(f"nightcrew:usage:{number}" for number in _PARTITIONS)
_BELLS: Final = tuple(f"{stream}:bell" for stream in _STREAMS)
_FLUSHES: Final = wire.usage_producer("*")
_MIRRORS: Final = wire.job_mirror("*")
_WAITING: Final = wire.queued_jobs("*")
_ACCESSES: Final = wire.access_producer("*")
_RANKINGS: Final = wire.access_hot("*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Commands, and the keys and channels that they may be used on."""

    purpose: str
    commands: tuple[str, ...]
    reads: tuple[str, ...] = ()
    """Patterns of keys."""
    writes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    """Patterns; PSUBSCRIBE needs its pattern to be one of them, letter for letter."""

    def selector(self) -> str:
        """Give what ACL SETUSER takes."""
        both = [key for key in self.reads if key in self.writes]
        rules = [f"+{command}" for command in self.commands]
        rules += [f"%RW~{key}" for key in both]
        rules += [f"%R~{key}" for key in self.reads if key not in both]
        rules += [f"%W~{key}" for key in self.writes if key not in both]
        rules += [f"&{channel}" for channel in self.channels]
        return f"({' '.join(('resetchannels', '-@all', *rules))})"


def grants(role: RoleName, *, database: int = 0) -> tuple[Grant, ...]:
    """Give what a role may do; none for `admin`, who may do everything. `database` is the number in the crew's URL."""
    connecting = ("ping",) if database == 0 else ("ping", "select")
    makers = {"admin": _admin, "producer": _producer, "worker": _worker, "viewer": _viewer, "scanner": _scanner}
    found = makers[role](database)
    return (Grant(purpose="connect", commands=connecting), *found) if found else ()


def user_line(user: str, role: RoleName, *, password_hash: str, database: int = 0) -> str:
    """Give the line of one user."""
    if role == "admin":
        return f"user {user} on sanitize-payload #{password_hash} ~* &* +@all"
    selectors = " ".join(grant.selector() for grant in grants(role, database=database))
    return f"user {user} on sanitize-payload #{password_hash} resetchannels -@all {selectors}"


def acl_file(hashes: Mapping[RoleName, str], *, database: int = 0) -> str:
    """Give the whole file: these users, each named as its role, and nobody without a password.

    A file that does not name the user `default` would leave it with all rights and no password.
    """
    lines = ["user default off sanitize-payload resetchannels -@all"]
    lines += [user_line(role, role, password_hash=known, database=database) for role, known in hashes.items()]
    return "".join(f"{line}\n" for line in lines)


def password_hash(password: str) -> str:
    """Give the form in which Redis keeps a password.

    SHA-256 without salt, so only a long random password is safe from whoever reads the file.

    Raises:
        ValueError: it is too short, or cannot stand in a URL and a line of text.
    """
    if len(password) < _SHORTEST_PASSWORD:
        msg = f"a password has at least {_SHORTEST_PASSWORD} characters"
        raise ValueError(msg)
    if not re.fullmatch(r"[!-~]+", password):
        raise ValueError("a password is made of the visible characters of ASCII")
    return hashlib.sha256(password.encode()).hexdigest()


def _admin(_database: int) -> tuple[Grant, ...]:
    return ()


def _producer(_database: int) -> tuple[Grant, ...]:
    """Give what the library in an app does, command for command.

    What a script may do is checked twice: its keys when it is called, as if it read and wrote all of them, and each
    command that it runs, which the narrower grants below decide.
    """
    touched = (wire.USAGE_META, _FLUSHES, *_STREAMS, *_BELLS, wire.INTENTS, wire.QUEUE_CAPS, _WAITING)
    touched += (wire.ACCESS_META, wire.ACCESS_TOTALS, wire.ACCESS_LOG, _ACCESSES, _RANKINGS)
    return (
        Grant(purpose="run the scripts of the library", commands=("eval", "evalsha"), reads=touched, writes=touched),
        Grant(purpose="append counts and intents", commands=("xadd",), writes=(*_STREAMS, wire.INTENTS)),
        Grant(purpose="see that a stream is one", commands=("type",), reads=_STREAMS),
        Grant(purpose="begin the log", commands=("hsetnx",), writes=(wire.USAGE_META,)),
        Grant(purpose="ask for partitions and caps", commands=("hget",), reads=(wire.USAGE_META, wire.QUEUE_CAPS)),
        Grant(purpose="find the last flush", commands=("get",), reads=(_FLUSHES,)),
        Grant(purpose="note a flush and ring", commands=("set",), writes=(_FLUSHES, *_BELLS)),
        Grant(purpose="keep to the caps", commands=("zadd", "zcard", "zscore"), reads=(_WAITING,), writes=(_WAITING,)),
        *_access_log(),
        *_cache(),
        Grant(purpose="publish messages", commands=("lpush",), writes=_QUEUES),
        Grant(purpose="follow jobs", commands=("hgetall",), reads=(_MIRRORS,)),
    )


def _cache() -> tuple[Grant, ...]:
    """Give what the cache client does: it keeps, finds and forgets values, and tells and hears what is forgotten."""
    kept = (f"{wire.cache_prefix('*')}*", "nightcrew:cache-filler:*")
    return (
        Grant(
            purpose="keep, find and forget values",
            commands=("get", "getex", "mget", "set", "del", "eval", "multi", "exec"),
            reads=kept,
            writes=kept,
        ),
        Grant(purpose="read the policy of the cache", commands=("get",), reads=(wire.CACHE_POLICY,)),
        Grant(
            purpose="forget a family",
            commands=("hgetall", "hincrby", "hset"),
            reads=(wire.CACHE_GENERATIONS,),
            writes=(wire.CACHE_GENERATIONS,),
        ),
        Grant(
            purpose="tell and hear what is forgotten",
            commands=("publish", "subscribe", "unsubscribe"),
            channels=(wire.CACHE_EVENTS,),
        ),
    )


def _access_log() -> tuple[Grant, ...]:
    """Give what `access.lua` runs. It appends and forgets, and reads nothing of what others have appended."""
    ranking = ("zincrby", "zrange", "zremrangebyrank", "zunionstore")
    return (
        Grant(
            purpose="append accesses, and keep their log in bounds",
            commands=("xadd", "xtrim"),
            writes=(wire.ACCESS_LOG,),
        ),
        Grant(purpose="see that it is a log", commands=("type",), reads=(wire.ACCESS_LOG,)),
        Grant(
            purpose="begin it, and read its salt",
            commands=("hget", "hsetnx"),
            reads=(wire.ACCESS_META,),
            writes=(wire.ACCESS_META,),
        ),
        Grant(
            purpose="add up what it holds",
            commands=("hdel", "hget", "hgetall", "hincrby", "hset"),
            reads=(wire.ACCESS_TOTALS,),
            writes=(wire.ACCESS_TOTALS,),
        ),
        Grant(
            purpose="find and note the last accesses", commands=("get", "set"), reads=(_ACCESSES,), writes=(_ACCESSES,)
        ),
        Grant(purpose="rank keys by hash", commands=ranking, reads=(_RANKINGS,), writes=(_RANKINGS,)),
    )


def _worker(database: int) -> tuple[Grant, ...]:
    """Give what workers, beat and the verbs of an operator do: everything that is the crew's, and nothing beside it."""
    keys = ("nightcrew:*", "nightcrew.*", "_kombu.binding*", "*.celery.pidbox*", "celeryev.*", *_UNACKED)
    commands = (
        *("multi", "exec", "discard", "watch", "unwatch", "eval", "evalsha", "script|exists", "script|load"),
        *("get", "getex", "mget", "set", "getdel", "incrby", "del", "unlink", "exists", "type"),
        *("expire", "pexpire", "expireat", "persist", "ttl", "pttl"),
        *("hget", "hset", "hsetnx", "hmget", "hgetall", "hlen", "hdel", "hexists", "hincrby", "hkeys", "hscan"),
        *("lpush", "rpush", "lpop", "rpop", "brpop", "llen", "lindex", "lrange", "lrem"),
        *("sadd", "srem", "smembers", "sismember", "scard"),
        *(
            "zadd",
            "zincrby",
            "zrem",
            "zrange",
            "zrangebyscore",
            "zremrangebyrank",
            "zremrangebyscore",
            "zunionstore",
            "zcard",
            "zcount",
            "zscore",
            "zmscore",
            "zscan",
        ),
        *("xadd", "xrange", "xrevrange", "xdel", "xtrim", "xlen", "xinfo|stream", "memory|usage"),
        *("publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
    )
    return (
        Grant(purpose="look at the server", commands=("info", "time")),
        # It may not ask the configuration where a dump would lie, so the server sends one, as to a replica.
        Grant(purpose="take a backup of the broker", commands=("sync", "replconf")),
        Grant(
            purpose="drain, run, reconcile, answer",
            commands=commands,
            reads=keys,
            writes=keys,
            channels=(*_channels(database), wire.CACHE_EVENTS),
        ),
    )


def _viewer(database: int) -> tuple[Grant, ...]:
    """Give what `nightcrew status`, `nightcrew doctor` and Flower do: read what is the crew's, and ask its workers."""
    seen = ("nightcrew:*", "nightcrew.*")
    # Where kombu notes who listens, and where the answers of the workers arrive.
    own = (
        *("_kombu.binding.celeryev", "_kombu.binding.*celery.pidbox", "_kombu.binding_permanent.*"),
        *("_kombu.binding_deadlines", "*.reply.celery.pidbox*", "celeryev.*", *_UNACKED),
    )
    return (
        Grant(purpose="look at the server", commands=("info", "time", "multi", "exec")),
        Grant(
            purpose="read what is the crew's",
            commands=(
                *("get", "ttl", "type", "exists", "hget", "hmget", "hgetall", "hlen", "llen", "lindex"),
                *("zrange", "zcard", "zcount", "zscore", "xrange", "xrevrange", "xlen", "xinfo|stream", "memory|usage"),
            ),
            reads=seen,
        ),
        Grant(
            purpose="ask workers and hear their events",
            commands=(
                *("publish", "psubscribe", "punsubscribe", "unsubscribe"),
                *("eval", "evalsha", "script|exists", "script|load", "watch", "unwatch"),
                *("get", "set", "del", "exists", "pexpire", "brpop", "rpop", "llen", "sadd", "srem", "smembers"),
                *("hset", "hget", "hdel", "zadd", "zrem", "zrange", "zrangebyscore"),
            ),
            reads=own,
            writes=own,
            channels=_channels(database),
        ),
    )


def _scanner(_database: int) -> tuple[Grant, ...]:
    """Give what the scan of a cache does (`tasks/ttl/store/scan.py`): it reads no value, and writes nothing.

    `CLIENT NO-TOUCH` is not in it: Redis has it since 7.2, and an ACL file that names it would not load before. Nothing
    that the scan asks touches idle times, with it or without.
    """
    return (
        Grant(purpose="look at the server, and say who looks", commands=("info", "client|setname")),
        Grant(
            purpose="look at a page of keys at once, by a script that may only read",
            commands=("evalsha_ro", "eval_ro", "script|load", "time"),
        ),
        Grant(
            purpose="look at keys, not at their values",
            commands=("scan", "pttl", "object|idletime", "memory|usage"),
            reads=("*",),
        ),
    )


_UNACKED: Final = ("unacked", "unacked_index", "unacked_mutex")
"""Of processes that are no workers, under the names that kombu gives them."""


def _channels(database: int) -> tuple[str, ...]:
    return (f"/{database}.celery.pidbox", f"/{database}.celeryev/*")
