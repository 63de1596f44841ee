"""A dead-man switch: an HTTP server on the loopback address that writes down what it hears, and can be made to fail."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request."""

    method: str
    path: str
    rid: str
    body: str


@dataclass(kw_only=True)
class Switch:
    """What was heard, in order, and how to answer."""

    port: int
    heard: list[Heard] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Of the next answers; 200 once they are used up."""
    location: str = ""
    lets_answer: threading.Event = field(default_factory=threading.Event)
    """Cleared, the switch takes requests and does not answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/canary-key"

    def paths(self) -> list[str]:
        return [one.path for one in self.heard]


@contextmanager
def listening_switch(*, port: int = 0) -> Iterator[Switch]:
    """Run a switch during the block; port 0 takes a free one."""

    class _Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            rid = ",".join(parse_qs(parts.query).get("rid", []))
            switch.heard.append(Heard(method=self.command, path=parts.path, rid=rid, body=body))
            switch.lets_answer.wait()
            self.send_response(switch.statuses.pop(0) if switch.statuses else 200)
            if switch.location:
                self.send_header("Location", switch.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815  the name is the library's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    switch = Switch(port=server.server_address[1])
    switch.lets_answer.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield switch
    finally:
        switch.lets_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()
