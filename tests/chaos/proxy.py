"""A line between crew and broker that a test cuts, or lets fall silent while both ends believe that it stands."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK_BYTES: Final = 65_536
_LOOPBACK: Final = "127.0.0.1"


@dataclass(slots=True, eq=False)
class Call:
    """One connection: what was accepted from the caller, and what was opened to the broker for it."""

    caller: socket.socket
    broker: socket.socket | None
    is_silent: bool
    """Whether what either side says gets lost, for good: to a line that was half open nothing comes back."""

    def hang_up(self) -> None:
        """Close both ends."""
        for end in filter(None, (self.caller, self.broker)):
            with contextlib.suppress(OSError):  # the other side was faster
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass(slots=True)
class Line:
    """Passes on what is said between callers on a loopback port and a broker on another, during the block."""

    broker_port: int
    state: Literal["open", "cut", "silent"] = field(default="open", init=False)
    refused: int = field(default=0, init=False)
    """Calls that were turned away while the line was cut."""
    swallowed: int = field(default=0, init=False)
    """Words that got lost."""
    _calls: list[Call] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _listener: socket.socket = field(init=False)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((_LOOPBACK, 0))
        threading.Thread(target=self._answer_calls, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake who waits in `accept`
        self._listener.close()
        self.cut()

    @property
    def url(self) -> str:
        """Where crew and apps reach the broker through it."""
        return f"redis://{_LOOPBACK}:{self._listener.getsockname()[1]}/0"

    def cut(self) -> None:
        """Hang up on everyone, and on whoever calls from now on."""
        with self._lock:
            self.state = "cut"
            for call in self._calls:
                call.hang_up()
            self._calls.clear()

    def fall_silent(self) -> None:
        """Lose every word from now on, without a sign to either side."""
        with self._lock:
            self.state = "silent"
            for call in self._calls:
                call.is_silent = True

    def heal(self) -> None:
        """Serve new calls again; the ones that fell silent stay so."""
        with self._lock:
            self.state = "open"

    def _answer_calls(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # the line was closed
                return
            with self._lock:
                self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        if self.state == "cut":
            self.refused += 1
            caller.close()
            return
        silent = self.state == "silent"
        try:
            broker = None if silent else socket.create_connection((_LOOPBACK, self.broker_port))
        except OSError:  # no broker there: neither is there a line
            caller.close()
            return
        call = Call(caller=caller, broker=broker, is_silent=silent)
        self._calls.append(call)
        for source, sink in ((caller, broker), (broker, caller)):
            if source is not None:
                threading.Thread(target=self._pass_on, args=(call, source, sink), daemon=True).start()

    def _pass_on(self, call: Call, source: socket.socket, sink: socket.socket | None) -> None:
        try:
            while said := source.recv(_CHUNK_BYTES):
                if call.is_silent or sink is None:
                    self.swallowed += 1
                else:
                    sink.sendall(said)
        except OSError:  # hung up in the middle of a word
            pass
        if not call.is_silent:  # else the other side would be told
            call.hang_up()
