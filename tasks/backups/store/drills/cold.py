"""The process of a cold restore: started with an environment that has nothing in it, and handed the kit by a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from tasks.backups.store.programs import polite
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis
    from sqlalchemy import Engine

    from tasks.backups.drills.drill import Room
    from tasks.backups.staging import Limits
    from tasks.runtime import BackupOptions

COMMAND: Final = (sys.executable, "-I", "-m", "tasks.backups.operations.cold_child")

_INHERITED: Final = ("PATH", "LANG", "LC_ALL")
_TICK_S: Final = 0.5
_PATIENCE_S: Final = 10.0
_OF_SQLITE: Final = ("", "-wal", "-shm", "-journal")
_KEPT: Final = ("staging", "cache", "manifests", "pages")


def ask_child(
    command: Sequence[str], order: Callable[[], bytes], room: Room, *, limits: Limits, tick: Callable[[], None]
) -> dict[str, Any]:
    """Run the process to its end, and give its answer.

    The order, which is secret, goes through a pipe: it is in no file, no argument and no variable, ours included, so
    that no traceback shows it. `tick` is called twice a second and is a checkpoint. The process dies with the thread
    that calls this.

    Raises:
        TransientError: it was killed.
        PermanentError: it broke, and said nothing.
    """
    with subprocess.Popen(
        [*polite(limits, at_death="KILL"), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_bare_environment(room),
        cwd=room.directory,
        start_new_session=True,
        umask=0o077,
    ) as child:
        try:
            _hand_over(child, order)
            said, complained = _listened(child, tick)
        except BaseException:
            _end(child)
            raise
    if child.returncode < 0:
        msg = f"the process of the cold restore was killed ({signal.strsignal(-child.returncode)})"
        raise TransientError(msg)
    with suppress(ValueError):
        answer = json.loads(said)
        if child.returncode == 0 and isinstance(answer, dict):
            return answer
    lines = complained.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"]
    msg = f"the process of the cold restore broke: {lines[-1]}"
    raise PermanentError(msg)


def source_paths(options: BackupOptions, engine: Engine, redis: Redis) -> list[str]:
    """Name the files of the source, and what this machine keeps beside: nothing of it is there after a disaster."""
    paths = [*options.config_files, *(options.directory / name for name in _KEPT)]
    paths += [vault.password_file for vault in (options.vault, options.second_vault) if vault is not None]
    paths += [path for path in (options.crew_file, options.model_file) if path is not None]
    if engine.dialect.name == "sqlite" and (name := engine.url.database) and name != ":memory:":
        paths += [Path(f"{name}{ending}") for ending in _OF_SQLITE]
    with suppress(RedisError):  # a user of least privilege may not ask
        told = {_text(key or ""): _text(value or "") for key, value in redis.config_get("*").items()}
        if directory := told.get("dir"):
            names = {told.get("dbfilename") or "dump.rdb", told.get("appenddirname") or "appendonlydir"}
            paths += [Path(directory) / name for name in names]
    return sorted({os.path.realpath(path) for path in paths})


def _bare_environment(room: Room) -> dict[str, str]:
    """Give PATH and locale, and empty directories of its own."""
    home, temporary = room.directory / "home", room.directory / "tmp"
    home.mkdir(mode=0o700)
    temporary.mkdir()
    temporary.chmod(0o711)  # a PostgreSQL that refuses to run as root passes through
    own = {"HOME": str(home), "TMPDIR": str(temporary)}
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | own


def _hand_over(child: subprocess.Popen[bytes], order: Callable[[], bytes]) -> None:
    pipe, child.stdin = child.stdin, None
    assert pipe is not None  # noqa: S101  it was asked for above
    with suppress(BrokenPipeError), pipe:  # it died before it read: its end says why
        pipe.write(order())


def _listened(child: subprocess.Popen[bytes], tick: Callable[[], None]) -> tuple[bytes, bytes]:
    while True:
        try:
            return child.communicate(timeout=_TICK_S)
        except subprocess.TimeoutExpired:
            tick()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it as Ctrl-C would: it then ends its own programs, and removes what it has made."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
