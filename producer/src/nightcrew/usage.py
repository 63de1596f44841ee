"""Counting how often something is used: one short call, exact sums.

A count waits in memory (or in the spool) and leaves with the next flush, some 1 s later, as a whole
and exactly once. `increment` never waits for the network.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nightcrew import _processes
from nightcrew._buffer import Buffer
from nightcrew._flusher import Flusher
from nightcrew._validation import check_amount, check_context, check_counts, check_key, check_outcome, event_hour
from nightcrew.errors import InvalidUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from nightcrew._batch import Batch
    from nightcrew._spool import SpoolBuffer

_ONE: Final = 1
_SECONDS_PER_HOUR: Final = 3600
_YIELD_S: Final = 0.000_05
_LONGEST_YIELD_S: Final = 0.02
_SETTLE_TIMEOUT_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 0.1


class UsageCounter:
    """The counts of this process. Safe for threads, forks and asyncio.

    Made by `Nightcrew`. `append` hands one batch to the usage log, from a background thread, of whose
    start `started` hears.
    """

    def __init__(
        self,
        append: Callable[[Batch], None],
        *,
        flush_interval_s: float = 1.0,
        timeout_s: float = 5.0,
        max_pending: int = 200_000,
        spool: Path | None = None,
        clock: Callable[[], float] = time.time,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._append = append
        self._flush_interval_s = flush_interval_s
        self._timeout_s = timeout_s
        self._max_pending = max_pending
        self._spool = spool
        self._clock = clock
        self._started = started
        self._start(adopt=True)
        _processes.reset_in_children(self)
        if self._buffer.pending:  # left in the spool by a process that died
            self._flusher.ensure_started()

    def increment(
        self,
        key: str,
        *,
        context: str = "",
        accepted: bool | None = None,
        amount: int = 1,
        at: datetime | None = None,
    ) -> None:
        """Count one use of `key`, or `amount` of them.

        `accepted` says what became of it (None: not told). Without `at`, the use counts for the
        present hour; around the turn of an hour it may count for the neighbour, by one flush at most.

        Raises:
            InvalidUsageError: a value is refused; the text says why.
            BufferFullError: this would be one distinct count too many while Redis is away.
            ClosedError: the counter was closed.
        """
        # The hot path: nothing here is slower than it must be, and nothing locks. What has a slot was checked when it
        # got one. `is` lets no True and no 1.0 through; `accepted=1` finds the slot of True, which is what it means.
        if amount is _ONE and at is None:
            try:
                next(self._slots[accepted][context][key])
                return  # noqa: TRY300 - an `else` costs the hot path a jump
            except (KeyError, TypeError):
                pass
        self._count(key, context, accepted, amount, at)

    def increment_many(
        self,
        keys: Mapping[str, int] | Iterable[str],
        *,
        context: str = "",
        accepted: bool | None = None,
        at: datetime | None = None,
    ) -> None:
        """Count each key of an iterable once, or each key of a mapping as often as it says: all of them, or none.

        Raises as `increment` does, and then nothing of it was counted.
        """
        context, outcome, hour = check_context(context), check_outcome(accepted), self._hour_of(at)
        counts = tally(keys)
        if isinstance(keys, Mapping):
            counts = check_counts(counts)
        else:  # the amounts come from us, and keys that are waiting already were checked before
            known = self._buffer.known(context, outcome, hour)
            if not counts.keys() <= known.keys():  # one pass in C, which is all there is to do once the keys are warm
                fresh = {key: amount for key, amount in counts.items() if key not in known}
                if check_counts(fresh) is not fresh:
                    counts = check_counts(counts)
        if counts and self._buffer.add_many(context, outcome, counts, hour):
            self._flush_soon()
        self._flusher.ensure_started()

    @property
    def pending(self) -> int:
        """Distinct counts that Redis does not have yet."""
        return self._buffer.pending

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything counted before this call is in the usage log; `timeout_s` is the client's if None.

        Raises:
            FlushError: that took too long; the counts are kept and tried again.
        """
        self._flusher.flush(self._timeout_s if timeout_s is None else timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more, and flush what is there.

        Raises:
            FlushError: Redis did not take it in time; what is left is lost, unless a spool keeps it.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        self._buffer.refuse()
        started = time.monotonic()
        while self._buffer.is_settling() and time.monotonic() < started + min(timeout_s, _SETTLE_TIMEOUT_S):
            time.sleep(0)  # a thread is between finding its slot and counting: let it
        try:
            if self.pending:
                self._flusher.flush(timeout_s)
        finally:
            self._flusher.stop(max(started + timeout_s - time.monotonic(), _STOP_TIMEOUT_S))
            self._buffer.close()

    def after_fork_in_child(self) -> None:
        """Begin empty: what the parent has counted is the parent's to send."""
        _processes.keep_inherited(self._buffer, self._flusher)
        self._start(adopt=False)

    def _start(self, *, adopt: bool) -> None:
        self._buffer = self._make_buffer(adopt=adopt)
        self._slots = self._buffer.slots
        self._flusher = Flusher(
            source=self._buffer,
            append=self._append,
            started=self._started,
            begin_hour=self._buffer.roll,
            interval_s=self._flush_interval_s,
            clock=self._clock,
        )

    def _make_buffer(self, *, adopt: bool) -> Buffer | SpoolBuffer:
        hour = self._present_hour()
        if self._spool is None:
            return Buffer(hour=hour, max_pending=self._max_pending)
        from nightcrew._spool import SpoolBuffer  # needs a POSIX system, which the rest does not

        return SpoolBuffer(self._spool, hour=hour, max_pending=self._max_pending, adopt=adopt)

    def _count(self, key: Any, context: Any, accepted: Any, amount: Any, at: Any) -> None:
        key, context, outcome = check_key(key), check_context(context), check_outcome(accepted)
        if amount is not _ONE:
            check_amount(amount)
        if self._buffer.add(context, outcome, key, amount, self._hour_of(at)):
            self._flush_soon()
        self._flusher.ensure_started()

    def _flush_soon(self) -> None:
        self._flusher.wake()
        # Lets the flusher have the interpreter lock now and not 5 ms later, and longer the more there is to send: a
        # loop over keys that all differ would outrun it and hit the bound. While Redis is away nobody is slowed down.
        if self._flusher.is_succeeding:
            time.sleep(_YIELD_S + _LONGEST_YIELD_S * min(self._buffer.waiting / self._max_pending, 1))

    def _hour_of(self, at: Any) -> int | None:
        return None if at is None else event_hour(at, now_hour=self._present_hour())

    def _present_hour(self) -> int:
        return int(self._clock()) // _SECONDS_PER_HOUR


def tally(keys: object) -> dict[Any, Any]:
    """Count equal keys, at the speed of C."""
    if isinstance(keys, Mapping):
        return dict(keys)
    if isinstance(keys, str | bytes):
        raise InvalidUsageError("increment_many takes keys, not one key: call increment(key), or give it [key]")
    try:
        return Counter(keys)  # type: ignore[call-overload, no-any-return]  # what cannot be iterated raises
    except TypeError as error:
        msg = f"increment_many takes a mapping or an iterable of keys: {error}"
        raise InvalidUsageError(msg) from error
