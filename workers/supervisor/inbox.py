"""Signals and notifications as one thing to wait for: no busy loop, no lost wake-up."""

from __future__ import annotations

import selectors
import signal
import socket
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from workers.supervisor.notify import NotifySocket

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCHED: Final = (*STOP_SIGNALS, signal.SIGCHLD)
_CHUNK: Final = 4096


class Inbox:
    """While it is open, the signals that ask for an end, and those of children, arrive here.

    For the main thread only, as Python's signal handling is. The handlers of before come back at the end.
    """

    def __init__(self, notifications: NotifySocket) -> None:
        self._notifications = notifications
        self._reader, self._writer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._previous_descriptor = -1
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._selector.register(self._notifications, selectors.EVENT_READ)
        self._previous_descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _WATCHED:
            self._previous[number] = signal.signal(number, _arrive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._previous_descriptor)
        self._selector.close()
        self._reader.close()
        self._writer.close()

    def wait(self, timeout_s: float | None) -> list[signal.Signals]:
        """Wait until something arrives, at most `timeout_s`; give the signals that did, in their order."""
        self._selector.select(timeout_s)
        try:
            arrived = self._reader.recv(_CHUNK)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in arrived]


def _arrive(_number: int, _frame: FrameType | None) -> None:
    """Let the interpreter write the signal's number to the wake-up descriptor, and do nothing else."""
