"""A real S3 server and a real append-only one on the loopback address, and what breaks on the way to them.

rclone rather than SeaweedFS: one port instead of ten, ready in a second, and the objects lie there as files.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.support.processes import spawned
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.processes import SpawnedProcess

KEYS = {"AWS_ACCESS_KEY_ID": "canary-of-the-key-id", "AWS_SECRET_ACCESS_KEY": "canary-of-the-secret-key"}
BUCKET = "nightcrew"

Fault = Literal["busy", "cut", "refuse", "hang"]
"""503 as S3 says it · half of the answer, or of what was sent · the connection closed unheard · no answer at all."""

_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True, kw_only=True)
class ObjectServer:
    """A server, and the directory that it serves."""

    port: int
    directory: Path


@contextlib.contextmanager
def running_s3(directory: Path) -> Iterator[ObjectServer]:
    """Run an S3 server with one bucket and one pair of keys.

    What lies in the directory before is there; what is put there later, and not through the server, may not be.
    """
    (directory / BUCKET).mkdir(parents=True, exist_ok=True)
    keys = f'"{KEYS["AWS_ACCESS_KEY_ID"]},{KEYS["AWS_SECRET_ACCESS_KEY"]}"'
    with _running_rclone("s3", directory, env={"RCLONE_AUTH_KEY": keys}) as server:
        yield server


@contextlib.contextmanager
def running_append_only(directory: Path) -> Iterator[ObjectServer]:
    """Run a server of restic's own protocol that takes everything and deletes nothing but locks."""
    directory.mkdir(parents=True)
    with _running_rclone("restic", directory, "--append-only") as server:
        yield server


@contextlib.contextmanager
def _running_rclone(
    protocol: str, directory: Path, *options: str, env: dict[str, str] | None = None
) -> Iterator[ObjectServer]:
    port = _free_port()
    beside = Path(sys.executable).with_name("rclone")
    program = beside if beside.exists() else shutil.which("rclone")
    assert program is not None, "rclone is a dev dependency"
    argv = [program, "serve", protocol, directory, "--addr", f"127.0.0.1:{port}", *options]
    with spawned(argv, env={"RCLONE_CONFIG": "/dev/null", **(env or {})}) as process:
        wait_until(lambda: _answers(process, port), timeout_s=60, what=f"rclone serve {protocol}")
        yield ObjectServer(port=port, directory=directory)


def _answers(process: SpawnedProcess, port: int) -> bool:
    """Tell whether the server that was started listens; one that another keeps from the port ends."""
    assert process.is_running(), process.describe()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(kw_only=True)
class FaultyWay:
    """The way to a server: it keeps everything that passed, and breaks what it is told to."""

    port: int
    passed: list[bytes] = field(default_factory=list)
    """Heads and bodies, in both directions."""
    requests: list[str] = field(default_factory=list)
    fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
    """By method and path."""
    is_over: threading.Event = field(default_factory=threading.Event)
    """Ends what hangs."""

    def everything(self) -> bytes:
        return b"\n".join(self.passed)


@contextlib.contextmanager
def faulty_way(to_port: int) -> Iterator[FaultyWay]:
    """Run a proxy on the loopback address during the block."""
    server = _Proxy(to_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.way
    finally:
        server.way.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, to_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.to_port = to_port
        self.way = FaultyWay(port=self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: they are killed on purpose."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def do_GET(self) -> None:
        way = self.server.way
        way.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        way.passed.append(f"{self.requestline}\n{self.headers}".encode() + body)
        fault = way.fault(self.command, self.path)
        if fault == "busy":
            self._answer(503, {"Content-Type": "application/xml"}, _BUSY)
        elif fault in {"refuse", "hang"}:
            if fault == "hang":
                way.is_over.wait()
            self.close_connection = True
        elif fault == "cut" and body:
            self._pass_half(body)
        else:
            self._pass_on(body, is_cut=fault == "cut")

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815  the names are the library's

    def _pass_half(self, body: bytes) -> None:
        """Hang up in the middle of what is sent: the server must not take half of an object for an object."""
        with socket.create_connection(("127.0.0.1", self.server.to_port), timeout=30) as upstream:
            upstream.sendall(f"{self.requestline}\r\n{self.headers}".encode() + body[: len(body) // 2])
        self.close_connection = True

    def _pass_on(self, body: bytes, *, is_cut: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.to_port, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read(), is_cut=is_cut)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, is_cut: bool = False) -> None:
        self.server.way.passed.append(str(headers).encode() + body)
        self.send_response_only(status)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in {*_HOP, "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if is_cut else body)
        self.close_connection = self.close_connection or is_cut

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        pass
