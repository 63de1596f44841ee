"""Flower: the web page of the crew, on the loopback address, behind a password.

Everything goes through the environment, which Flower reads as `FLOWER_<OPTION>`: a password in the
arguments could be read by every user of the machine.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from workers.supervisor.errors import FlowerPortError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSWORD_FILE: Final = "flower.password"  # noqa: S105  a file name
ARGV: Final = (sys.executable, "-m", "celery", "-A", "workers.app", "flower")
_ADDRESS: Final = "127.0.0.1"
_USER: Final = "nightcrew"
_PASSWORD_BYTES: Final = 18

_OPTIONS: Final = {
    "FLOWER_ADDRESS": _ADDRESS,
    # Otherwise Flower runs whatever `flowerconfig.py` lies in the current directory.
    "FLOWER_CONF": os.devnull,
    # A saved state is pickled in the event loop: the page freezes meanwhile (mher/flower#1398).
    "FLOWER_PERSISTENT": "false",
    "FLOWER_MAX_TASKS": "10000",
    "FLOWER_PURGE_OFFLINE_WORKERS": "600",  # seconds
    "FLOWER_NATURAL_TIME": "true",
    "FLOWER_TASKS_COLUMNS": "name,state,kwargs,result,received,started,runtime,worker,retries",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAccess:
    """Where Flower is and how to get in."""

    port: int
    user: str
    password: str = field(repr=False)
    is_new: bool
    """Whether the password was made just now, and nobody has seen it."""
    password_file: Path

    @property
    def url(self) -> str:
        """Address of the page, without the password."""
        return f"http://{_ADDRESS}:{self.port}/"


def prepare_flower(data_dir: Path, *, port: int) -> FlowerAccess:
    """Choose the port (0: a free one) and read the password, or make it the first time.

    Raises:
        FlowerPortError: another program has the port.
    """
    path = data_dir / PASSWORD_FILE
    password, is_new = _password(path)
    return FlowerAccess(port=_usable_port(port), user=_USER, password=password, is_new=is_new, password_file=path)


def flower_environment(access: FlowerAccess, env: Mapping[str, str]) -> dict[str, str]:
    """Add Flower's options to the environment of the crew; those of someone else's Flower must not slip in."""
    inherited = {name: value for name, value in env.items() if not name.startswith("FLOWER_")}
    return {
        **inherited,
        **_OPTIONS,
        "FLOWER_PORT": str(access.port),
        "FLOWER_BASIC_AUTH": f"{access.user}:{access.password}",
        "FLOWER_COOKIE_SECRET": secrets.token_urlsafe(32),
    }


def is_listening(pid: int, *, port: int) -> bool:
    """Tell whether this process, and no other, listens on the port."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr == (_ADDRESS, port) for one in connections)


def _password(path: Path) -> tuple[str, bool]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # An empty one is what a crash between the two calls left.
        if known := path.read_text(encoding="ascii").strip():
            return known, False
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{password}\n")
    return password, True


def _usable_port(port: int) -> int:
    with socket.socket() as probe:
        # As Flower does: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            msg = (
                f"port {port} is taken or forbidden ({error.strerror}): set NIGHTCREW_FLOWER__PORT=0 for a free one, "
                "or run without Flower: --no-flower"
            )
            raise FlowerPortError(msg) from error
        chosen: int = probe.getsockname()[1]
        return chosen
