"""How a child tells that it is ready: the protocol of sd_notify(3), so that systemd understands it too.

A child calls `tell_ready()` when it takes work. `NOTIFY_SOCKET` names the listener: ours here, systemd's
in production, none when it is unset.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, Self

from workers.supervisor.directories import place_socket, remove_socket

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

VARIABLE: Final = "NOTIFY_SOCKET"
_LONGEST_MESSAGE_BYTES: Final = 4096


def tell_ready() -> None:
    """Tell whoever started this process that it is ready; do nothing where nobody asked for it.

    Raises:
        OSError: the listener is gone.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        return
    # systemd may use the abstract namespace, which it writes with a leading @.
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(f"READY=1\nMAINPID={os.getpid()}".encode(), target)


class NotifySocket:
    """Listens for children that are ready. Only this user can send: the directory has mode 700."""

    def __init__(self, wanted: Path) -> None:
        self._wanted = wanted
        self.path = place_socket(wanted)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        self._socket.settimeout(0)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        remove_socket(self.path, wanted=self._wanted)

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._socket.fileno()

    def ready_pids(self) -> list[int]:
        """Give the processes that have told they are ready since the last call."""
        pids: list[int] = []
        while True:
            try:
                message = self._socket.recv(_LONGEST_MESSAGE_BYTES)
            except BlockingIOError:
                return pids
            pids += _ready_pids(message)


def _ready_pids(message: bytes) -> list[int]:
    """Read one message; what is not about readiness is skipped, as sd_notify(3) asks of listeners."""
    lines = message.decode("utf-8", "replace").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    pid = fields.get("MAINPID", "")
    return [int(pid)] if fields.get("READY") == "1" and pid.isascii() and pid.isdigit() else []
