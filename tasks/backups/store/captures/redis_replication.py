"""Reading the dump of a Redis server through the connection, as a replica does: for a server on another machine.

The server forks and sends its dump without touching its own disk, if it is new enough (`capa eof`), and ends the
connection after it (`rdb-only`). `redis-cli --rdb` does the same, but it does not compare the name in a server's
certificate with the host, and would give a password to whoever has a certificate of the same authority; the connection
of our own client does compare. The protocol: redis-cli.c, `sendSync`, and replication.c, `readSyncBulkPayload`.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from tasks.backups.store.captures.private_files import new_file
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from socket import socket

    from redis import Redis

_CHUNK_BYTES: Final = 256 * 1024
_LOOK_S: Final = 0.5
_ENDLESS: Final = b"$EOF:"
_MARK_BYTES: Final = 40
_SILENCE_S: Final = 90.0
"""A server that prepares its dump sends a line break every ten seconds."""


def receive_dump(client: Redis, to: Path, *, name: str, tell: Callable[[int, int | None], None]) -> str:
    """Write the dump of a server into a new file, and give its SHA-256.

    `tell` hears how many bytes are there, of how many if the server says so, and is a checkpoint.

    Raises:
        PermanentError: this user may not replicate.
        TransientError: the server said nothing for a while, hung up, or could not make its dump.
    """
    with _replica(client) as connection, new_file(to) as file:
        digest = hashlib.sha256()
        total, chunks = _Stream(connection, name, lambda: tell(file.tell(), None)).dump()
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            tell(file.tell(), total)
        return digest.hexdigest()


class _Stream:
    """What a server sends after SYNC."""

    def __init__(self, connection: socket, name: str, tick: Callable[[], None]) -> None:
        self._connection = connection
        self._name = name
        self._tick = tick
        self._read = b""

    def dump(self) -> tuple[int | None, Iterator[bytes]]:
        """Give the length of the dump, if the server knows it beforehand, and the dump in parts."""
        header = self._header()
        if header.startswith(_ENDLESS):
            return None, self._until(header.removeprefix(_ENDLESS))
        length = int(header.removeprefix(b"$"))
        return length, self._exactly(length)

    def _header(self) -> bytes:
        """Read the line that says how the dump will end; line breaks before it only mean patience."""
        while b"\r\n" not in self._read:
            self._read = (self._read + self._receive()).lstrip(b"\n")
        line, self._read = self._read.split(b"\r\n", 1)
        if not line.startswith(b"$"):
            raise _refusal(self._name, line)
        return line

    def _exactly(self, size_bytes: int) -> Iterator[bytes]:
        while size_bytes > 0:
            chunk = (self._read or self._receive())[:size_bytes]
            self._read = b""
            size_bytes -= len(chunk)
            yield chunk

    def _until(self, mark: bytes) -> Iterator[bytes]:
        """Give everything before a mark, which is the last that the server sends."""
        while not self._read.endswith(mark):
            ready, self._read = self._read[:-_MARK_BYTES], self._read[-_MARK_BYTES:]
            if ready:
                yield ready
            self._read += self._receive()
        yield self._read[:-_MARK_BYTES]

    def _receive(self) -> bytes:
        deadline = time.monotonic() + _SILENCE_S
        while time.monotonic() < deadline:
            try:
                chunk = self._connection.recv(_CHUNK_BYTES)
            except TimeoutError:
                self._tick()
                continue
            except OSError as error:
                msg = f"the connection to the {self._name} broke before its dump was through: {error}"
                raise TransientError(msg) from error
            if not chunk:
                msg = f"the {self._name} hung up before its dump was through; its own log says why"
                raise TransientError(msg)
            return chunk
        msg = f"the {self._name} has sent nothing of its dump for {_SILENCE_S:g} s"
        raise TransientError(msg)


@contextmanager
def _replica(client: Redis) -> Iterator[socket]:
    """Ask for the dump on a connection of its own, and give what is below that connection."""
    connection: Any = client.connection_pool.get_connection()
    try:
        for option in (("capa", "eof"), ("rdb-only", "1")):
            connection.send_command("REPLCONF", *option)
            with suppress(ResponseError):  # an older server, which needs neither
                connection.read_response()
        connection.send_command("SYNC")
        below: socket = connection._sock  # noqa: SLF001  the client has no word for an answer without end
        below.settimeout(_LOOK_S)
        yield below
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)


def _refusal(name: str, line: bytes) -> PermanentError | TransientError:
    said = line.removeprefix(b"-").decode(errors="replace")
    if said.startswith(("NOPERM", "ERR unknown command")):
        msg = (
            f"the {name} does not give its dump to this user: grant it +sync and +replconf, or run the backup on "
            f"the machine of the server ({said})"
        )
        return PermanentError(msg)
    return TransientError(f"the {name} could not send its dump: {said}")
