"""Servers full of everything, and stages to capture them in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.backups.staging import Limits, Stage
from tasks.backups.store.private_redis import read_expectations
from tasks.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from redis import Redis as Client

    from tasks.backups.manifest import Redis
    from tests.support.redis import RedisServer

LIMITS = Limits(nice=0, idle_io=False)

_MANY = """
for number = 1, ARGV[1] do
  redis.call('SET', 'key:' .. number, number)
end
"""


@dataclass(slots=True)
class Told:
    """A progress that remembers what it was told, and calls the work off when it is asked to."""

    until: Callable[[str], bool] = lambda _phase: False
    calls: list[tuple[str, int, int | None]] = field(default_factory=list)

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        self.calls.append((phase, done, total))
        if self.until(phase):
            raise CancelledError(phase)

    def hear(self, done: int, total: int | None) -> None:
        """Take how far the only phase is."""
        self("", done, total)

    @property
    def phases(self) -> list[str]:
        """Name the phases in the order in which they began."""
        return list(dict.fromkeys(phase for phase, _, _ in self.calls))


def make_stage(directory: Path, progress: Told | None = None) -> Stage:
    """Open a new, empty stage."""
    directory.mkdir(mode=0o700)
    return Stage(directory=directory, progress=progress or Told(), limits=LIMITS)


def read(rdb: Path, programs: Sequence[Path] | None = None) -> Redis:
    """Read a dump as that of a broker."""
    return read_expectations(
        rdb, name="broker", member="redis/broker.rdb", limits=LIMITS, progress=Told(), programs=programs
    )


def fill(server: RedisServer) -> None:
    """Write something of every type, in three databases: texts, bytes, and keys with a time to live."""
    client = server.client()
    client.set("text", "väärt")
    client.set(b"\x00\xff\r\n binary", b"\xde\xad\x00")
    client.set("counter", 41)
    client.rpush("list", *range(300))
    client.sadd("numbers", *range(100))
    client.sadd("words", *(f"word {number}" for number in range(300)))
    client.hset("hash", mapping={f"field {number}": "x" * number for number in range(200)})
    client.zadd("scores", {f"member {number}": number / 7 for number in range(300)})
    client.pfadd("about", *range(1000))
    client.geoadd("places", (13.361389, 38.115556, "Palermo"))
    for number in range(300):
        client.xadd("stream", {"number": number})
    client.xgroup_create("stream", "readers", id="0")
    client.xreadgroup("readers", "one", {"stream": ">"}, count=10)
    client.set("soon", 1, px=86_400_000)
    client.set("later", 1, px=172_800_000)
    client.function_load("#!lua name=library\nredis.register_function('f', function() return 1 end)")
    database(server, 3).mset({f"three:{number}": number for number in range(50)})
    database(server, 15).set("last", "one")


def fill_with_many(server: RedisServer, keys: int) -> None:
    """Write so many small keys into database 0."""
    server.client(socket_timeout=60.0).eval(_MANY, 0, keys)


def dump(server: RedisServer) -> Path:
    """Have the server write its dump at once."""
    server.client(socket_timeout=60.0).save()
    return server.directory / "dump.rdb"


def database(server: RedisServer, number: int) -> Client:
    """Open a client of one of the databases of a server."""
    client = server.client(single_connection_client=True)
    client.select(number)
    return client


def digest_of(server: RedisServer) -> str:
    """Ask a server for the digest of all that is in it; it has to be started with `enable-debug-command local`."""
    answer: bytes = server.client().execute_command("DEBUG", "DIGEST")  # type: ignore[no-untyped-call]
    return answer.decode()
