"""The background thread that hands counts over: when, in which order, and what when the log is away.

One thread does all of it, and it is never the main thread. That is what keeps the counts exact when a
Ctrl-C or a signal handler strikes: Python raises those in the main thread only, so no flush is ever
torn in the middle.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from nightcrew.errors import FlushError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightcrew._batch import Batch, Source

_SHORTEST_BACKOFF_S: Final = 0.05
_LONGEST_BACKOFF_S: Final = 5.0
_SHORTEST_WAIT_S: Final = 0.001
_SECONDS_PER_HOUR: Final = 3600

_log = logging.getLogger("nightcrew")


class Flusher:
    """Sends what its source holds, batch by batch in order, each until the log has it."""

    def __init__(
        self,
        *,
        source: Source,
        append: Callable[[Batch], None],
        started: Callable[[], None],
        begin_hour: Callable[[int], None],
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._append = append
        self._started = started
        self._begin_hour = begin_hour
        self._interval_s = interval_s
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # SimpleQueue.put may interrupt itself (a signal handler that counts); Event and Condition may not.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._waiting: list[_Call] = []
        self._stopping = False
        self._backoff_s = 0.0
        self._not_before = 0.0
        self._last_error: Exception | None = None

    def ensure_started(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    # redis and Celery are imported by the thread, perhaps while the interpreter is about to end, and
                    # then this module, which they need, could no longer be imported (it registers an exit function).
                    import concurrent.futures.thread  # noqa: F401

                    thread = threading.Thread(target=self._run, name="nightcrew-flusher", daemon=True)
                    thread.start()
                    self._thread = thread
                    self._started()
            finally:
                self._starting.release()

    @property
    def is_succeeding(self) -> bool:
        """Tell whether the last flush, if there was one, arrived."""
        return self._last_error is None

    def wake(self) -> None:
        """Ask for a flush soon; does not wait."""
        self._calls.put(None)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything counted before this call is in the log.

        Raises:
            FlushError: it was not within `timeout_s`; what is left is kept and tried again.
        """
        call = _Call()
        self.ensure_started()
        self._calls.put(call)
        if not call.done.wait(timeout_s):
            msg = f"the counts were not handed over within {timeout_s:g} s; they are kept and tried again"
            raise FlushError(msg if self._last_error is None else f"{msg} (last error: {self._last_error})")

    def stop(self, timeout_s: float) -> None:
        """End the thread after what it is doing now; a call that still waits is left to its timeout."""
        thread = self._thread
        self._stopping = True
        self._calls.put(None)
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        try:
            next_flush = time.monotonic() + self._interval_s
            while not self._stopping:
                known = len(self._waiting)
                woken = self._wait_until(self._next_deadline(next_flush))
                self._begin_hour(int(self._clock()) // _SECONDS_PER_HOUR)
                now = time.monotonic()
                called, timed = len(self._waiting) > known, now >= next_flush
                # A new call is tried at once; everything else lets the log recover first.
                if called or (now >= self._not_before and (woken or timed or self._waiting)):
                    next_flush = now + self._interval_s if timed or called else next_flush
                    self._try_to_flush(everything=timed or bool(self._waiting))
        finally:
            self._thread = None  # whatever ended it: the next count starts another

    def _next_deadline(self, next_flush: float) -> float:
        wanted = self._not_before if self._waiting else max(next_flush, self._not_before)
        return min(wanted, time.monotonic() + _SECONDS_PER_HOUR - self._clock() % _SECONDS_PER_HOUR)

    def _wait_until(self, deadline: float) -> bool:
        """Wait until the deadline, or for a call or a wake-up before it; tell whether there was one."""
        woken = False
        try:
            call = self._calls.get(timeout=max(deadline - time.monotonic(), _SHORTEST_WAIT_S))
            while True:
                woken = True
                if call is not None:
                    self._waiting.append(call)
                call = self._calls.get_nowait()
        except Empty:
            return woken

    def _try_to_flush(self, *, everything: bool) -> None:
        from redis.exceptions import RedisError

        calls = list(self._waiting)
        try:
            self._flush_all(everything=everything)
        except (RedisError, OSError, SpoolError) as error:
            self._give_way(error)
            return
        self._backoff_s, self._not_before, self._last_error = 0.0, 0.0, None
        if not self._stopping:  # else it may have stopped halfway
            self._waiting = [call for call in self._waiting if call not in calls]
            for call in calls:
                call.done.set()

    def _flush_all(self, *, everything: bool) -> None:
        self._deliver()  # what was frozen before a failure, before anything new is sealed
        self._source.seal(everything=everything)
        self._deliver()

    def _deliver(self) -> None:
        try:
            while not self._stopping and (batch := self._source.take()) is not None:
                self._append(batch)
                self._source.settle()
        finally:
            self._source.unseal()

    def _give_way(self, error: Exception) -> None:
        if self._last_error is None:
            _log.warning("usage counts wait until Redis takes them: %s", error)
        self._last_error = error
        self._backoff_s = min(max(2 * self._backoff_s, _SHORTEST_BACKOFF_S), _LONGEST_BACKOFF_S)
        self._not_before = time.monotonic() + self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries


class _Call:
    """Somebody who waits for a flush."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = threading.Event()
