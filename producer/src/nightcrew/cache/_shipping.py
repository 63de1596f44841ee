"""The background thread that ships what the sampler has noted of the cache's requests to the access log.

Nothing of this may be felt by the app: `record` hands over to the sampler and returns, and while Redis is away the
sampler goes on adding up, within its bounds. One thread ships, and it is never the main thread: a Ctrl-C or a signal
handler, which Python raises in the main thread only, never tears a shipment in the middle.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from nightcrew import _processes
from nightcrew.cache._access_log import HOT_KEYS, AccessLog, Shipment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

    from nightcrew.cache._access_batch import AccessBatch, FamilyAccess
    from nightcrew.cache._recording import Operation
    from nightcrew.signing import Signer

_SHORTEST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 30.0
_CLOSE_TIMEOUT_S: Final = 2.0
_STOP_TIMEOUT_S: Final = 0.1
_SALT_BYTES: Final = 16
_RANK_EVERY_S: Final = 60.0
"""How often it is heard which keys all processes ask for most."""
_RANKED_AT_ONCE: Final = 64
"""Keys of each family that a shipment reports for that ranking: the script that adds them up holds Redis up."""
_SHORTEST_WAIT_S: Final = 0.001
_MOST_PENDING: Final = 48
"""Hours of an outage that are told apart."""
_HOUR_S: Final = 3600

_log = logging.getLogger("nightcrew")


class AccessShipper:
    """Notes the requests of this process and ships them. Safe for threads and forks; an `AccessRecorder`.

    `connect` makes a client of the Redis that the crew listens to, from the shipping thread. What is noted leaves every
    `interval_s`, at the turn of an hour, and when the process ends; it waits in memory while Redis is away, and what
    then finds no room is counted as dropped.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        *,
        signer: Signer | None = None,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect = connect
        self._signer = signer
        self._interval_s = interval_s
        self._clock = clock
        self._closed = False
        self._begin()
        _processes.reset_in_children(self)
        _processes.call_at_exit(self._close_at_exit)

    def record(self, family: str, key: str, operation: Operation, *, hit: bool, size_bytes: int) -> None:
        """Take note of one request; never waits, never raises."""
        self._sampler.record(family, key, operation, hit=hit, size_bytes=size_bytes)
        if self._thread is None:
            self._ensure_started()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything noted before this call is in the log; tell whether it is."""
        self._ensure_started()
        arrived = threading.Event()
        self._calls.put(arrived)
        return arrived.wait(timeout_s)

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> bool:
        """Ship what is there and end the thread; tell whether all of it arrived. A second call does nothing."""
        if self._closed:
            return True
        self._closed = True
        _processes.forget_at_exit(self._close_at_exit)
        arrived, thread = True, self._thread
        if thread is not None:
            deadline = time.monotonic() + timeout_s
            arrived = self.flush(timeout_s)
            self._stopping = True
            self._calls.put(None)
            thread.join(max(deadline - time.monotonic(), _STOP_TIMEOUT_S))
            if self._log is not None:
                self._log.close()
        return arrived

    def after_fork_in_child(self) -> None:
        """Begin empty: what the parent has noted is the parent's to ship."""
        _processes.keep_inherited(self._sampler, self._log)
        self._begin()

    def _begin(self) -> None:
        from nightcrew.cache._sampler import Sampler

        self._salt = secrets.token_hex(_SALT_BYTES)  # a proposal: the log's first answer corrects it
        self._is_salted = False
        self._sampler = Sampler(bytes.fromhex(self._salt))
        self._producer = uuid.uuid4().hex
        self._seq = 0
        self._pending: deque[Shipment] = deque()
        self._hour = self._present_hour()
        self._log: AccessLog | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # SimpleQueue.put may interrupt itself (a signal handler); Event and Condition may not.
        self._calls: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._waiting: list[threading.Event] = []
        self._stopping = False
        self._backoff_s = 0.0
        self._not_before = 0.0
        self._rank_at = 0.0

    def _ensure_started(self) -> None:
        if self._thread is None and not self._stopping and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    # Imported by the thread, perhaps while the interpreter is about to end: see `_flusher.py`.
                    import concurrent.futures.thread  # noqa: F401

                    thread = threading.Thread(target=self._run, name="nightcrew-accesses", daemon=True)
                    with suppress(RuntimeError):  # no more threads to be had, or the interpreter ends
                        thread.start()
                        self._thread = thread
                        _processes.call_at_child_exit(self._close_at_exit)
            finally:
                self._starting.release()

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        try:
            while not self._stopping:
                called = self._wait_until(max(due, self._not_before))
                self._turn_hour()
                now = time.monotonic()
                # A call is tried at once; everything else lets the log recover first.
                if called or now >= max(due, self._not_before):
                    due = now + self._interval_s
                    self._try_to_ship()
        finally:
            self._thread = None  # whatever ended it: the next request starts another

    def _wait_until(self, deadline: float) -> bool:
        """Wait until the deadline, the turn of an hour, or a call before it; tell whether there was a call."""
        turn = time.monotonic() + _HOUR_S - self._clock() % _HOUR_S
        known = len(self._waiting)
        try:
            call = self._calls.get(timeout=max(min(deadline, turn) - time.monotonic(), _SHORTEST_WAIT_S))
            while True:
                if call is not None:
                    self._waiting.append(call)
                call = self._calls.get_nowait()
        except Empty:
            return len(self._waiting) > known

    def _turn_hour(self) -> None:
        """Set apart what belongs to the hour that has ended, also while the log is away."""
        if (hour := self._present_hour()) != self._hour:
            if len(self._pending) < _MOST_PENDING:  # else it is told for a later hour
                self._seal()
            self._hour = hour

    def _try_to_ship(self) -> None:
        calls = list(self._waiting)
        try:
            self._ship()
        except Exception as error:  # noqa: BLE001  an app must not feel it, whatever it is
            self._give_way(error)
            return
        if not self._stopping:  # else it may have stopped halfway
            self._backoff_s, self._not_before = 0.0, 0.0
            self._waiting = [call for call in self._waiting if call not in calls]
            for call in calls:
                call.set()

    def _ship(self) -> None:
        if self._log is None:
            self._log = AccessLog(self._connect(), signer=self._signer)
        if not self._is_salted:
            self._use_salt(self._log.ask(self._salt).salt)
        while self._pending and not self._stopping:
            self._append(self._log)
        self._seal()
        while self._pending and not self._stopping:
            self._append(self._log)

    def _append(self, log: AccessLog) -> None:
        """Hand over the oldest shipment, or learn that its hashes are of another salt."""
        wants_hot = time.monotonic() >= self._rank_at
        answer = log.append(self._pending[0], self._salt, hot_keys=HOT_KEYS if wants_hot else 0)
        if answer.verdict == "salt":
            self._use_salt(answer.salt)
            return
        self._pending.popleft()
        if wants_hot:
            self._rank_at = time.monotonic() + _RANK_EVERY_S
        for family, hashes in answer.hot.items():
            self._sampler.set_hot(family, hashes)

    def _seal(self) -> None:
        """Set apart what the sampler has noted until now, as the next shipment."""
        from nightcrew.cache._access_batch import encode

        batch = self._sampler.take()
        if batch is not None:
            self._seq += 1
            self._pending.append(
                Shipment(
                    producer=self._producer,
                    seq=self._seq,
                    body=encode(batch),
                    told=_told(batch),
                    asked=_asked(batch),
                )
            )

    def _use_salt(self, salt: str) -> None:
        """Hash with the log's salt from now on; what is hashed with another keeps its counters, not its sample."""
        if salt != self._salt:
            self._sampler.set_salt(bytes.fromhex(salt))
            self._pending = deque(_without_sample(one) for one in self._pending)
        self._salt, self._is_salted = salt, True

    def _give_way(self, error: Exception) -> None:
        if not self._backoff_s:
            _log.warning("what the cache was asked for waits until Redis takes it: %s", error)
        self._backoff_s = min(max(2 * self._backoff_s, _SHORTEST_BACKOFF_S), _LONGEST_BACKOFF_S)
        self._not_before = time.monotonic() + self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries

    def _present_hour(self) -> int:
        return int(self._clock()) // _HOUR_S

    def _close_at_exit(self) -> None:
        if not self.close():
            _log.warning("what the cache was asked for last was not handed over at exit")


def operations_told(one: FamilyAccess) -> int:
    """Count the operations of a family in a batch; the crew compares their sum with what it has taken in."""
    return one.hits + one.misses + one.sets + one.deletes


def _told(batch: AccessBatch) -> dict[str, int]:
    return {one.family: operations_told(one) for one in batch.families}


def _asked(batch: AccessBatch) -> dict[str, Sequence[tuple[str, int]]]:
    return {one.family: nlargest(_RANKED_AT_ONCE, one.hot, key=itemgetter(1)) for one in batch.families}


def _without_sample(shipment: Shipment) -> Shipment:
    from nightcrew.cache._access_batch import decode, encode

    batch = decode(shipment.body)
    bare = replace(batch, families=tuple(replace(one, hot=(), followed=(), records=()) for one in batch.families))
    return replace(shipment, body=encode(bare), asked={})
