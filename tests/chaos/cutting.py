"""A broker that is reached through a bad line: what the app says arrives, but some answers never do."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK_BYTES = 65_536
_SCRIPT = b"EVAL"


@dataclass(slots=True, kw_only=True)
class BadLine:
    """Passes on what both sides say, and now and then hangs up instead of passing on the answer to a script."""

    path: Path
    broker: Path
    chance: random.Random
    cut_share: float
    """Part of those answers that are lost, once `sure_cuts` of them are."""
    on_cut: Callable[[], None]
    """Called when an answer is lost, before the app can notice."""
    sure_cuts: int = 4
    """The first answers are always lost: how many flushes an app needs depends on how fast the machine is."""
    cuts: int = field(default=0, init=False)

    def serve(self, app: socket.socket) -> None:
        """Serve one connection until a side or the line hangs up."""
        with socket.socket(socket.AF_UNIX) as broker, selectors.DefaultSelector() as selector:
            broker.connect(str(self.broker))
            selector.register(app, selectors.EVENT_READ, broker)
            selector.register(broker, selectors.EVENT_READ, app)
            script_is_out = False
            while True:
                for key, _ in selector.select():
                    source: Any = key.fileobj
                    said = source.recv(_CHUNK_BYTES)
                    if not said or (source is broker and script_is_out and self._loses_answer()):
                        return
                    # The flush is the one script of the producer library; doorbells and greetings get through.
                    script_is_out = source is app and (script_is_out or _SCRIPT in said)
                    key.data.sendall(said)

    def _loses_answer(self) -> bool:
        if self.cuts >= self.sure_cuts and self.chance.random() >= self.cut_share:
            return False
        self.cuts += 1
        self.on_cut()
        return True


@contextmanager
def bad_line(line: BadLine) -> Iterator[str]:
    """Open the line during the block, and give the address at which apps reach the broker through it."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                line.serve(self.request)
            except ConnectionError:  # a side hung up in the middle of a word
                return

    with socketserver.ThreadingUnixStreamServer(str(line.path), Connection) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"unix://{line.path}?db=0"
        finally:
            server.shutdown()
            thread.join()
