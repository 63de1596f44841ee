"""Counts waiting on disk instead of in memory: the same duties as `_buffer.py`, and `kill -9` loses none.

A directory holds one set of files per process (`_spool_file.py`), so that any number of processes and
forked children share it; each also takes over what dead ones have left. A set that has grown large is
sent off and another one begun, so nothing is ever compacted in place.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nightcrew._buffer import EARLY_SHARE, full
from nightcrew._spool_file import SpoolFile
from nightcrew.errors import ClosedError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nightcrew._batch import Batch, Outcome
    from nightcrew._buffer import Slots
    from nightcrew._spool_file import Entry

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_CELLS_PER_PENDING: Final = 2
_FULL_JOURNAL_BYTES: Final = 16 * 1024 * 1024


class SpoolBuffer:
    """The counts of one process that no flush has taken yet, on disk. Safe for threads.

    Raises:
        SpoolError: the directory cannot be used, or what others left in it cannot be read.
    """

    def __init__(
        self, directory: Path, *, hour: int, max_pending: int, adopt: bool, full_bytes: int = _FULL_JOURNAL_BYTES
    ) -> None:
        self.slots: Slots = {None: {}, True: {}, False: {}}  # stays empty: each count goes to disk
        self._directory = directory
        self._hour = hour
        self._max_pending = max_pending
        self._full_bytes = full_bytes
        self._early = max(max_pending // EARLY_SHARE, 1)
        self._closed = False
        self._taking: SpoolFile | None = None
        self._current: SpoolFile | None = None
        self._older: list[SpoolFile] = []
        self._lock = threading.RLock()
        self._busy = False
        self._interposed: list[dict[Entry, int]] = []
        if adopt:
            self._adopt()

    @property
    def pending(self) -> int:
        """Distinct entries that the log does not have yet."""
        with self._lock:
            return sum(spool.pending for spool in self._files()) + len(self._interposed)

    @property
    def waiting(self) -> int:
        """Distinct entries that no flush has taken."""
        return sum(len(spool.live) for spool in self._files())

    def known(self, context: str, outcome: Outcome, hour: int | None) -> Mapping[str, int]:
        """Give what needs no checking: nothing, the disk is the slower part."""
        del context, outcome, hour
        return _NOTHING

    def add(self, context: str, outcome: Outcome, key: str, amount: int, hour: int | None) -> bool:
        """Count one checked entry; tell whether to flush soon. Raises as `add_many` does."""
        with self._lock:
            entry = (self._hour if hour is None else hour, context, outcome, key)
            if self._busy or self._closed or self._current is None:
                return self._add({entry: amount})
            self._busy = True
            try:
                if self._current.add_to_live(entry, amount):
                    self._add_interposed()
                    return False
            finally:
                self._busy = False
            return self._add({entry: amount})

    def add_many(self, context: str, outcome: Outcome, counts: dict[str, int], hour: int | None) -> bool:
        """Count checked entries: all of them or, when it raises, none; tell whether to flush soon.

        Raises:
            BufferFullError: they do not fit into `max_pending`.
            SpoolError: the disk takes no more.
            ClosedError: the buffer takes nothing more.
        """
        of_hour = self._hour if hour is None else hour
        return self._add({(of_hour, context, outcome, key): amount for key, amount in counts.items()})

    def roll(self, hour: int) -> None:
        """Begin another hour."""
        self._hour = hour

    def seal(self, *, everything: bool) -> None:
        """Let the next flush take what is there now."""
        del everything  # nothing here is cheaper to leave
        with self._alone():
            for spool in self._files():
                spool.seal()

    def take(self) -> Batch | None:
        """Freeze the next batch, the oldest files first; the same one again until it is settled."""
        with self._alone():
            for spool in self._files():
                if (batch := spool.take()) is not None:
                    self._taking = spool
                    return batch
                if spool is not self._current and not spool.pending:
                    self._older.remove(spool)
                    spool.remove()
            return None

    def settle(self) -> None:
        """Forget the frozen batch."""
        with self._alone():
            if self._taking is not None:
                self._taking.settle()
                self._taking = None

    def unseal(self) -> None:
        """Nothing to do: what was not taken coalesces on."""

    def refuse(self) -> None:
        """Take nothing more; what is there can still be flushed."""
        self._closed = True

    def is_settling(self) -> bool:
        """Tell whether a thread may still be counting."""
        return False

    def close(self) -> None:
        """Give the files back; those that hold nothing are deleted."""
        with self._alone():
            for spool in self._files():
                if spool.pending:
                    spool.close()
                else:
                    spool.remove()
            self._older, self._current = [], None

    def _add(self, counts: dict[Entry, int]) -> bool:
        with self._lock:
            if self._closed:
                raise ClosedError("this Nightcrew was closed: nothing more can be counted with it")
            if self._busy:
                self._interposed.append(counts)
                return False
            with self._alone():
                before = self.waiting
                spool = self._file_for(counts)
                spool.add(counts)
                self._add_interposed()
                return self.waiting // self._early > before // self._early

    def _add_interposed(self) -> None:
        """Count what a signal handler left aside; its call has returned, so the bound no longer matters."""
        while self._interposed:
            self._file_for(self._interposed[-1], bounded=False).add(self._interposed[-1])
            self._interposed.pop()

    def _file_for(self, counts: dict[Entry, int], *, bounded: bool = True) -> SpoolFile:
        spool = self._current
        new = len(counts) if spool is None else sum(entry not in spool.live for entry in counts)
        if bounded and new and sum(one.pending for one in self._files()) + new > self._max_pending:
            raise full(self._max_pending)
        if spool is None or spool.size_bytes > self._full_bytes or not spool.has_room(new):
            fresh = SpoolFile.create(self._directory, cells=_CELLS_PER_PENDING * self._max_pending)
            if spool is not None:
                self._older.append(spool)
            self._current = spool = fresh
        return spool

    def _files(self) -> list[SpoolFile]:
        # Always a list of its own: `take` removes from `_older` on its way, and would pass over a file otherwise.
        return [*self._older] if self._current is None else [*self._older, self._current]

    def _adopt(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "no permission", str(self._directory))
        except OSError as error:
            msg = f"the spool must be a directory that this process may write: {error}"
            raise SpoolError(msg) from error
        self._older = list(SpoolFile.adopt_all(self._directory))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            busy, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = busy
