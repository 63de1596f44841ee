"""A Redis server of our own for a moment: it loads a dump, says what is in it, and is gone.

It is a replica of nobody: its primary is a loopback port where nobody listens. A primary would drop keys that are past
their time while it loads (rdb.c, `rdbLoadRioWithLoadingCtx`), and what a file holds would depend on the hour at which
somebody looks. It listens on a unix socket in a directory that only this user can enter, and writes nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tasks.backups.manifest import Redis, RedisDatabase
from tasks.backups.store.programs import polite
from tasks.backups.store.rdb_files import (
    RdbDamagedError,
    RdbForeignError,
    check_rdb,
    is_of_another_kind,
    server_programs,
)
from tasks.backups.store.sandboxes import sandbox, sweep
from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.backups.staging import Limits, Progress
    from tasks.backups.store.rdb_files import RdbFile
    from tasks.errors import CrewError

ServerName = Literal["broker", "cache"]

_MOST_DATABASES: Final = 10_000
"""A dump does not say how many databases its server had; each costs half a kilobyte."""

_PREFIX: Final = "nightcrew-redis-"
_LOOK_S: Final = 0.02
_START_PATIENCE_S: Final = 30.0
_ANSWER_TIMEOUT_S: Final = 60.0
_TICK_S: Final = 0.5
_LONGEST_ROOT: Final = 70
"""Of the 107 bytes that the path of a socket may have."""
_LAST_WORDS: Final = 2_000
_KEYS_A_CALL: Final = 10_000

# The server walks through its keys by itself: a question for each of them would take a hundred times as long.
_COUNT_TYPES: Final = """
local types, seen, cursor = {}, 0, ARGV[1]
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    seen = seen + 1
    if redis.call('PTTL', key) == -1 then
      local kind = redis.call('TYPE', key)['ok']
      types[kind] = (types[kind] or 0) + 1
    end
  end
until cursor == '0' or seen >= tonumber(ARGV[2])
local flat = {cursor}
for kind, count in pairs(types) do
  flat[#flat + 1] = kind
  flat[#flat + 1] = count
end
return flat
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRedis:
    """A server that has loaded a dump and expired nothing; it lives as long as the block that opened it."""

    pid: int
    program: Path
    socket: Path

    @contextmanager
    def client(self, number: int = 0) -> Iterator[redis.Redis]:
        """Give a client of one of its databases."""
        with redis.Redis(
            unix_socket_path=str(self.socket),
            db=number,
            socket_timeout=_ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # whoever asks too early asks again by himself, and passes a checkpoint
        ) as client:
            yield client


def read_expectations(
    rdb: Path,
    *,
    name: ServerName,
    member: str,
    limits: Limits,
    progress: Progress,
    programs: Sequence[Path] | None = None,
    look: Callable[[PrivateRedis], None] | None = None,
) -> Redis:
    """Say what a dump holds: the same for the same file, whenever it is read.

    Another program only comes to another digest, and the digest says whose it is. The file is checked from end to end
    first. Programs are tried in their order; None: all that are on this machine. `look` sees the server before it ends.

    Raises:
        RdbDamagedError: the file is damaged.
        RdbForeignError: no program here reads it.
        ProgramMissingError: there is no program.
        TransientError: the program was killed, or did not come up.
    """
    refusals: list[str] = []
    for program in server_programs() if programs is None else programs:
        try:
            with _checked(program, rdb, name=name, limits=limits, progress=progress) as (server, checked):
                found = _expectations(server, checked, name=name, member=member, progress=progress)
                if look is not None:
                    look(server)
                return found
        except RdbForeignError as error:
            refusals.append(str(error))
    msg = f"{'; '.join(refusals)}. Install the kind and version of the server that wrote it"
    raise RdbForeignError(msg)


@contextmanager
def private_redis(program: Path, rdb: Path, *, limits: Limits, progress: Progress) -> Iterator[PrivateRedis]:
    """Run a server on a dump during the block; it has loaded the dump when the block begins.

    It ends with the block, and with the thread that entered the block.

    Raises:
        RdbDamagedError: the file cannot be loaded.
        RdbForeignError: this program does not read such files, or is too old to be told what to do.
        TransientError: it was killed, or did not come up in time.
    """
    with _workshop() as directory, _closed_port() as port, (directory / "log").open("w+b") as log:
        (directory / "dump.rdb").symlink_to(rdb.resolve())
        popen = _start(program, port, directory, limits, log)
        try:
            server = PrivateRedis(pid=popen.pid, program=program, socket=directory / "socket")
            _wait_until_loaded(server, popen, log, progress, rdb)
            yield server
        finally:
            popen.kill()  # it has nothing to save
            popen.wait()


@contextmanager
def _checked(
    program: Path, rdb: Path, *, name: ServerName, limits: Limits, progress: Progress
) -> Iterator[tuple[PrivateRedis, RdbFile]]:
    """Check the file from end to end, and run a server on it during the block."""
    size_bytes = rdb.stat().st_size
    with _workshop() as workshop:
        checked = check_rdb(
            rdb, program, workshop=workshop, limits=limits, tick=lambda: progress(f"check {name}", 0, size_bytes)
        )
    with private_redis(program, rdb, limits=limits, progress=progress) as server:
        yield server, checked


def _expectations(
    server: PrivateRedis, checked: RdbFile, *, name: ServerName, member: str, progress: Progress
) -> Redis:
    with server.client() as client:
        counts = _key_counts(client)
        about = client.info("server")
    whole = sum(keys for keys, _ in counts.values())
    size_bytes, done = checked.path.stat().st_size, 0
    databases = []
    for number, (keys, expires) in sorted(counts.items()):
        progress(f"read {name}", size_bytes * done // whole, size_bytes)
        types = _count_types(server, number, tick=lambda: progress(f"read {name}", 0))
        databases.append(RedisDatabase(number=number, keys=keys, expires=expires, types=types))
        done += keys
    digest = _digest(server, tick=lambda: progress(f"digest {name}", 0))
    return Redis(
        name=name,
        member=member,
        server_version=checked.written_by,
        databases=tuple(databases),
        digest=digest,
        digest_by=f"{server.program.name} {about.get('valkey_version') or about['redis_version']}",
    )


def _key_counts(client: redis.Redis) -> dict[int, tuple[int, int]]:
    """Give the number of keys of each database that has any, and how many of them expire some time."""
    keyspace = client.info("keyspace")
    return {int(label.removeprefix("db")): (one["keys"], one["expires"]) for label, one in keyspace.items()}


def _count_types(server: PrivateRedis, number: int, *, tick: Callable[[], None]) -> dict[str, int]:
    """Count the keys without a time to live by type; the others vanish from a scan once their time is over."""
    counts: Counter[str] = Counter()
    cursor = b"0"
    with server.client(number) as client:
        count = client.register_script(_COUNT_TYPES)
        while True:
            cursor, *flat = count(args=[cursor, _KEYS_A_CALL])
            for kind, found in zip(flat[::2], flat[1::2], strict=True):
                counts[kind.decode()] += found
            if cursor == b"0":
                return dict(sorted(counts.items()))
            tick()


def _digest(server: PrivateRedis, *, tick: Callable[[], None]) -> str:
    """Ask for the digest of everything, which takes a second for about 100 MB: the server is deaf meanwhile."""
    with server.client() as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command("DEBUG", "DIGEST")  # type: ignore[no-untyped-call]
            while not connection.can_read(timeout=_TICK_S):
                tick()
            return str(connection.read_response().decode())
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
            client.connection_pool.release(connection)


def _start(program: Path, port: int, directory: Path, limits: Limits, log: IO[bytes]) -> subprocess.Popen[bytes]:
    options: dict[str, Sequence[str]] = {
        "port": ["0"],
        "unixsocket": ["socket"],
        "unixsocketperm": ["700"],
        "dir": ["."],
        "dbfilename": ["dump.rdb"],
        "save": [""],
        "appendonly": ["no"],
        "databases": [str(_MOST_DATABASES)],
        "maxclients": ["16"],
        "loglevel": ["warning"],
        "replicaof": ["127.0.0.1", str(port)],
        "replica-serve-stale-data": ["yes"],
        "enable-debug-command": ["local"],
    }
    argv = [str(program), *chain.from_iterable((f"--{name}", *values) for name, values in options.items())]
    return subprocess.Popen(
        [*polite(limits, at_death="KILL"), *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=directory,
        start_new_session=True,
        umask=0o077,
    )


def _wait_until_loaded(
    server: PrivateRedis, popen: subprocess.Popen[bytes], log: IO[bytes], progress: Progress, rdb: Path
) -> None:
    size_bytes = rdb.stat().st_size
    deadline = time.monotonic() + _START_PATIENCE_S
    while popen.poll() is None:
        persistence = _ask(server)
        if persistence is not None and not persistence["loading"]:
            return
        loaded = int(persistence.get("loading_loaded_bytes", 0)) if persistence else 0
        if loaded:
            deadline = time.monotonic() + _START_PATIENCE_S
        elif time.monotonic() > deadline:
            msg = f"{server.program.name} did not begin to load {rdb.name} within {_START_PATIENCE_S:g} s"
            raise TransientError(msg)
        progress(f"load {rdb.stem}", min(loaded, size_bytes), size_bytes)
        time.sleep(_LOOK_S)
    raise _load_failure(server.program, rdb, popen.wait(), log)


def _ask(server: PrivateRedis) -> dict[str, Any] | None:
    """Ask how far it is; None: nobody answers yet."""
    try:
        with server.client() as client:
            answer: dict[str, Any] = client.info("persistence")
    except (RedisError, OSError):
        return None
    return answer


def _load_failure(program: Path, rdb: Path, code: int, log: IO[bytes]) -> CrewError:
    log.seek(0)
    said = log.read().decode(errors="replace")[-_LAST_WORDS:]
    if code < 0:
        return TransientError(f"{program.name} was ended by signal {-code} while it loaded {rdb.name}")
    last = said.strip().splitlines()[-1:] or [f"exit code {code}"]
    if is_of_another_kind(said) or "FATAL CONFIG FILE ERROR" in said:
        return RdbForeignError(f"{program.name} does not load {rdb.name}: {last[0]}")
    return RdbDamagedError(f"{rdb.name} cannot be loaded by {program.name}: {last[0]}")


def sweep_servers() -> None:
    """Remove what servers have left whose process was killed; the servers themselves died with it."""
    sweep(_root(), _PREFIX)


@contextmanager
def _workshop() -> Iterator[Path]:
    """Give a new directory that only this user can enter, with a path that leaves room for a socket."""
    with sandbox(_root(), _PREFIX) as directory:
        yield directory


def _root() -> Path:
    root = Path(tempfile.gettempdir())
    if len(os.fsencode(root)) > _LONGEST_ROOT:
        return Path("/tmp")  # noqa: S108  the directory in it is new, private, and its name cannot be guessed
    return root


@contextmanager
def _closed_port() -> Iterator[int]:
    """Keep a loopback port on which nobody answers, and which nobody else can take during the block."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
