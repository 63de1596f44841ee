"""A Redis server as a file: its own dump, whole, checked, and read once to write down what is in it.

A server on this machine writes its dump to its own directory, from where it is copied. Whether it is on this machine
is not asked but seen: a loopback address may lead into a container. So its process must be here, its directory must be
readable, and after the save a new file of that process must lie there. All others send their dump over the connection.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError, ResponseError

from nightcrew._redis import connect, mask_url
from nightcrew.errors import InvalidUrlError
from tasks.backups.eta import bytes_text
from tasks.backups.manifest import Member
from tasks.backups.staging import RedisCapture
from tasks.backups.store.captures.private_files import copy_hashed, new_file
from tasks.backups.store.captures.redis_replication import receive_dump
from tasks.backups.store.captures.redis_saving import SaveFailedError, save_in_background
from tasks.backups.store.private_redis import read_expectations
from tasks.backups.store.stages import check_room
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tasks.backups.staging import Stage
    from tasks.backups.store.private_redis import ServerName

_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 1_800.0
_MOST_PACKED: Final = 4
"""Bytes of memory for a byte of the dump, hardly ever more."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_log = structlog.get_logger(__name__)


def capture_redis(
    url: str, *, name: ServerName, stage: Stage, patience_s: float = _PATIENCE_S, spare_bytes: int = 0
) -> RedisCapture:
    """Take a Redis or Valkey server whole, while it serves; `redis/<name>.rdb` then lies in the stage.

    Nothing but the server's own dump is consistent, and it is of one moment after the call. `patience_s` bounds the
    wait for other saves and rewrites of the server, `spare_bytes` are to be left on the disk of the stage.

    Raises:
        PermanentError: the server is none that can be taken, this user may not, or the dump cannot be read here.
        TransientError: the server is away, loading or busy, it could not fork, or a disk is full: its, or ours.
    """
    member = f"redis/{name}.rdb"
    path = stage.directory / member
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _plain_errors(url, name), connect(url, _TIMEOUT_S) as client:
        about = _wait_until_loaded(client, name, stage, patience_s)
        server = _examine(client, about, name, url)
        check_room(stage.directory, _least_bytes(server) + spare_bytes)
        sha256 = _take(client, server, path, stage, patience_s)
    expected = read_expectations(path, name=name, member=member, limits=stage.limits, progress=stage.progress)
    size_bytes = path.stat().st_size
    return RedisCapture(
        members=(Member(name=member, part="redis", size_bytes=size_bytes, sha256=sha256),),
        expected=expected,
        size_bytes=size_bytes,
        tools=dict([expected.digest_by.split(" ", 1)]),
    )


def run_of(url: str, *, name: ServerName) -> str:
    """Give what tells a server from all others: drawn anew at each start of one.

    Raises:
        PermanentError: this user may not ask.
        TransientError: the server is away.
    """
    with _plain_errors(url, name), connect(url, _TIMEOUT_S) as client:
        return str(client.info("server")["run_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What matters of a server that can be taken."""

    name: ServerName
    memory_bytes: int
    dump: _Dump | None
    """None where its disk is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dump:
    """Where a server on this machine writes its dump."""

    path: Path
    owner: int
    """User that the server runs as."""
    is_spare: bool
    """Whether the server neither writes nor reads it by itself, because it keeps a log of its writes."""

    def is_new(self, about: os.stat_result | None, before: os.stat_result | None) -> bool:
        """Tell whether a file is one that the server has written since: what else lies there is not touched."""
        if about is None or not stat.S_ISREG(about.st_mode) or about.st_uid != self.owner:
            return False
        return before is None or _identity(about) != _identity(before)


def _identity(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size


def _wait_until_loaded(client: Redis, name: ServerName, stage: Stage, patience_s: float) -> dict[str, Any]:
    """Give what the server says of itself as soon as it has read its files."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            about: dict[str, Any] = client.info()
        except BusyLoadingError:  # the answer to the PING before it
            about = {"loading": 1}
        if not about["loading"]:
            return about
        if time.monotonic() > deadline:
            msg = f"the {name} still loads its files: it is asked again later"
            raise TransientError(msg)
        stage.progress(f"wait for {name}", int(about.get("loading_loaded_bytes", 0)))
        time.sleep(_LOOK_S)


def _examine(client: Redis, about: dict[str, Any], name: ServerName, url: str) -> _Server:
    if about.get("cluster_enabled"):
        msg = f"the {name} ({mask_url(url)}) is a node of a cluster: give the crew a Redis that is none"
        raise PermanentError(msg)
    if about.get("role", "master") != "master":
        primary = f"{about.get('master_host')}:{about.get('master_port')}"
        msg = f"the {name} ({mask_url(url)}) is a replica, which may be behind: give the address of {primary}"
        raise PermanentError(msg)
    return _Server(name=name, memory_bytes=int(about["used_memory"]), dump=_find_dump(client, int(about["process_id"])))


def _least_bytes(server: _Server) -> int:
    """Say how large the dump will be at least, about: as its last one, or a fraction of the memory.

    What does not fit after all is told by the disk.
    """
    last = None if server.dump is None else _look_at(server.dump.path)
    return server.memory_bytes // _MOST_PACKED if last is None else min(server.memory_bytes, last.st_size)


def _find_dump(client: Redis, pid: int) -> _Dump | None:
    """Find where the server writes its dump, if that can be a place on this machine."""
    address = client.connection_pool.connection_kwargs
    if "path" not in address and address.get("host") not in _LOOPBACK:
        return None
    try:
        told = client.config_get("dir", "dbfilename", "save", "appendonly")
    except ResponseError:  # not allowed, or switched off
        return None
    owner = _user_of(pid)
    directory = Path(told["dir"] or "")
    if owner is None or not os.access(directory, os.X_OK):
        return None
    is_spare = told["appendonly"] == "yes" and not told["save"]
    return _Dump(path=directory / str(told["dbfilename"]), owner=owner, is_spare=is_spare)


def _user_of(pid: int) -> int | None:
    """Give the user that a process of this machine runs as (proc(5)); None where there is no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("Uid:")), "")
    return int(line.split()[2]) if line else None


def _take(client: Redis, server: _Server, path: Path, stage: Stage, patience_s: float) -> str:
    """Put the dump of the server into a file, and give its SHA-256."""
    if server.dump is not None:
        sha256 = _save_and_copy(client, server, server.dump, path, stage, patience_s)
        if sha256 is not None:
            return sha256
        _log.info("backups.dump_streamed", server=server.name, reason="its disk cannot be read from here")
    return receive_dump(client, path, name=server.name, tell=partial(stage.progress, f"receive {server.name}"))


def _save_and_copy(
    client: Redis, server: _Server, dump: _Dump, path: Path, stage: Stage, patience_s: float
) -> str | None:
    """Let the server write its dump and copy it; None where no new file of the server is seen."""
    before = _look_at(dump.path)

    def tell(share: float) -> None:
        stage.progress(f"save {server.name}", int(share * server.memory_bytes), server.memory_bytes)

    try:
        save_in_background(
            client,
            name=server.name,
            patience_s=patience_s,
            is_written=lambda: dump.is_new(_look_at(dump.path), before),
            tell=tell,
        )
    except SaveFailedError as error:
        msg = f"{error}: {_reason(dump, server)}"
        raise SaveFailedError(msg) from error
    try:
        return _copy(dump, path, before, partial(stage.progress, f"copy {server.name}"))
    finally:
        if dump.is_spare and dump.is_new(_look_at(dump.path), before):
            _remove_dump(dump, before)


def _copy(dump: _Dump, to: Path, before: os.stat_result | None, tell: Callable[[int, int], None]) -> str | None:
    try:
        source = FileIO(dump.path, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError:
        return None
    with source:
        about = os.fstat(source.fileno())
        if not dump.is_new(about, before):
            return None
        # Nobody changes it any more: a server that saves again puts another one in its place.
        with new_file(to) as target:
            return copy_hashed(source, target, size_bytes=about.st_size, tell=tell)[0]


def _look_at(path: Path) -> os.stat_result | None:
    """Look at a file and not through it; None: there is none, or it cannot be seen."""
    try:
        return path.lstat()
    except OSError:
        return None


def _remove_dump(dump: _Dump, before: os.stat_result | None) -> None:
    """Take away what the server has no use for; what was there before may be of a capture that was called off."""
    if before is not None and dump.owner != os.geteuid():
        return  # or it is somebody's, whose server this is
    try:
        dump.path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("backups.dump_left", path=str(dump.path), reason=str(error))


def _reason(dump: _Dump, server: _Server) -> str:
    """Guess why a server could not write its dump; its own log knows."""
    directory = dump.path.parent
    if not directory.is_dir():
        return f"its directory {directory} is gone"
    if dump.path.is_dir():
        return f"{dump.path} is a directory: move it away"
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < server.memory_bytes:
        return f"{directory} has only {bytes_text(free_bytes)} left: make room"
    return f"its log has the reason; its user needs to write to {directory}"


@contextmanager
def _plain_errors(url: str, name: ServerName) -> Iterator[None]:
    """Say what redis-py raises in one line that says what to do, without the password."""
    address = mask_url(url)
    try:
        yield
    except (AuthenticationError, InvalidUrlError) as error:
        msg = f"the {name} ({address}) does not let us in: {error}"
        raise PermanentError(msg) from error
    except NoPermissionError as error:
        msg = (
            f"this user may not save the {name} ({address}): {error}. Grant it +info, +bgsave and +config|get, or "
            "+sync and +replconf"
        )
        raise PermanentError(msg) from error
    except ResponseError as error:
        msg = f"the {name} ({address}) refuses to be saved: {error}"
        raise PermanentError(msg) from error
    except RedisError as error:
        msg = f"the {name} ({address}) does not answer: {error}"
        raise TransientError(msg) from error
