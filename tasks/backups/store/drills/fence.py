"""A fence around a process: it cannot come near the source of a backup, and whoever tries is written down.

An audit hook of Python (PEP 578) hears of every file, program and socket before it is opened, and no code can take it
away again. It sees what Python does: what C libraries and programs do, it sees where they are started. They know
nothing of the source, because the process that starts them does not.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WATCHED: Final = ("open", "os.", "shutil.", "sqlite3.connect", "subprocess.Popen")
_SOCKETS: Final = ("socket.connect", "socket.sendto", "socket.sendmsg")


class SourceTouchedError(BaseException):
    """Something went for the source. Nobody may catch it on the way: it is no error that anything could go on after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What is out of reach, and what was tried all the same."""

    closed: Sequence[str]
    """Files and directories that nobody may open, with all that is below them."""
    passages: Sequence[str] = ()
    """Directories that may be used although they lie below a closed one: the sandbox and the vault."""
    sockets: Sequence[str] = ()
    """Beginnings of the paths of unix sockets that may be connected to. There is no way out by any other kind."""
    touched: list[str] = field(default_factory=list)
    """What was tried, in words."""

    def put_up(self) -> None:
        """Put the fence around this process, until its end."""
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear what is about to happen.

        Raises:
            SourceTouchedError: it must not.
        """
        if event.startswith(_SOCKETS):
            self._check_socket(event, arguments)
        elif event.startswith(_WATCHED):
            for path in _paths(arguments):
                if self._is_closed(path):
                    self._refuse(f"{event} of {path}")

    def _check_socket(self, event: str, arguments: tuple[Any, ...]) -> None:
        family = getattr(arguments[0], "family", None)
        address = arguments[1] if len(arguments) > 1 else None
        if family != socket.AF_UNIX or not (address is None or self._is_own_socket(address)):
            self._refuse(f"{event} to {address!r}")

    def _is_own_socket(self, address: str | bytes) -> bool:
        return os.path.realpath(os.fsdecode(address)).startswith(tuple(self.sockets))

    def _is_closed(self, path: str) -> bool:
        real = os.path.realpath(path)
        return _is_below(real, self.closed) and not _is_below(real, self.passages)

    def _refuse(self, what: str) -> None:
        self.touched.append(what)
        raise SourceTouchedError(what)


def _is_below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)


def _paths(arguments: Sequence[Any]) -> Iterator[str]:
    """Give what may be a path, wherever it stands: also addresses of SQLite, and arguments of programs."""
    for argument in arguments:
        if isinstance(argument, list | tuple):
            yield from _paths(argument)
        elif isinstance(argument, str | bytes | os.PathLike):
            text = os.fsdecode(argument)
            yield unquote(urlsplit(text).path) if text.startswith("file:") else text
