"""The process of a cold restore, which does something beside that it must not do, or waits to be killed.

cold_poison.py DEED SOURCE        the process itself, with an order on standard input
cold_poison.py drill URL REDIS DIRECTORY        a drill whose process waits
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.operations import cold_child, drilling
from tasks.backups.operations.cold import ColdRestorer
from tasks.backups.store.drills.fence import SourceTouchedError

if TYPE_CHECKING:
    from collections.abc import Callable

HERE: Final = "here"


def seen_file(source: str) -> Path:
    """Give the file where `tell` writes."""
    return Path(f"{source}.seen")


def tell(source: str) -> None:
    """Write down what this process has, beside the source."""
    home = [path.name for path in Path(os.environ["HOME"]).iterdir()]
    seen = {"environment": dict(os.environ), "home": home, "arguments": sys.orig_argv}
    seen_file(source).write_text(json.dumps(seen))


def look(source: str) -> None:
    """Open the database with SQLite's own library."""
    sqlite3.connect(f"file:{source}?mode=ro", uri=True).close()


def read(source: str) -> None:
    """Open the file, and think nothing of it when that is refused."""
    with suppress(SourceTouchedError):
        Path(source).read_bytes()


def run(source: str) -> None:
    """Have another program do it."""
    subprocess.run(["/bin/cat", source], check=False, capture_output=True)


def connect(source: str) -> None:
    """Speak to the broker."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(f"{source}.sock")


def call(_source: str) -> None:
    """Speak to somebody on the network."""
    with socket.socket() as connection, suppress(OSError):
        connection.connect(("127.0.0.1", 9))


def die(_source: str) -> None:
    """Be killed by the kernel, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait(_source: str) -> None:
    """Wait for the end in the middle of the work."""
    Path(os.environ["HOME"], HERE).touch()
    signal.pause()


DEEDS: Final[dict[str, Callable[[str], None]]] = {
    one.__name__: one for one in (tell, look, read, run, connect, call, die, wait)
}


def restore_with(deed: str, source: str) -> None:
    """Do the work of the process, and the deed in the middle of it."""
    restore = drilling.VaultRestorer.restore

    def poisoned(*arguments: Any) -> Any:
        DEEDS[deed](source)
        return restore(*arguments)

    drilling.VaultRestorer.restore = poisoned  # type: ignore[assignment,method-assign]
    cold_child.main()


def drill(url: str, redis_url: str, directory: str) -> None:
    """Do a cold drill whose process waits."""
    from nightcrew import _redis  # noqa: PLC0415  the process in the fence does without
    from tasks.backups.drills.drill import DrillOrder  # noqa: PLC0415
    from tasks.runtime import NoAttempt  # noqa: PLC0415
    from tests.integration.tasks.backups.crew import options_in, runtime_of  # noqa: PLC0415
    from tests.support.databases import opened_engine  # noqa: PLC0415

    with opened_engine(url) as engine:
        redis = _redis.connect(redis_url, 5.0)
        runtime = runtime_of(engine, redis, options_in(Path(directory)), NoAttempt())
        restorer = ColdRestorer(runtime=runtime, command=(sys.executable, "-I", __file__, "wait", directory))
        drilling.run_of(runtime, teller=NoAttempt(), restorer=restorer).run(DrillOrder(way="cold"))


if __name__ == "__main__":
    if sys.argv[1] == "drill":
        drill(*sys.argv[2:])
    else:
        restore_with(*sys.argv[1:])
