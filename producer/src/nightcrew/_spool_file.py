"""One producer's counts on disk: three files that any later process can take over.

`<producer>.cells`    whole numbers of 8 bytes, mapped into memory: how often each entry was counted,
                      ever. Counting is one store into the page cache, which survives the process.
`<producer>.journal`  lines of `<crc32> <json>`: which cell counts what, which amounts were frozen into
                      which batch, which batch the log has. One write each; a torn last line is ignored.
`<producer>.lock`     locked by the process it belongs to (a POSIX lock: a forked child does not have it).

What is pending is a cell less what batches took from it, so freezing a batch changes no cell: writing
its line is the one moment at which it happens. A batch is written down before it is sent, and sent
under its number until the log has it; who takes the files over goes on with the same numbers.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import uuid
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from nightcrew._batch import FLUSH_ENTRIES, Batch
from nightcrew.errors import SpoolError
from nightcrew.wire import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nightcrew._batch import Group, Outcome

Entry = tuple[int, str, "Outcome", str]
"""Hour, context, outcome, key."""

_FORMAT: Final = 1
_CELL_BYTES: Final = 8
_MODE: Final = 0o600

# A POSIX lock does not hold against the process that has it, and goes when it closes the file anywhere.
_own: set[str] = set()
os.register_at_fork(after_in_child=_own.clear)


class SpoolFile:
    """The counts of one producer. Its caller sees to it that only one thread is inside at a time."""

    def __init__(self, directory: Path, producer: str, lock: int) -> None:
        self.producer = producer
        self.live: dict[Entry, int] = {}
        self._stem = directory / producer
        self._lock = lock
        self._journal = -1
        self._journal_bytes = 0
        self._map: mmap.mmap | None = None
        self._cells: memoryview | Sequence[int] = ()
        self._taken: list[int] = []
        self._entries: list[Entry] = []
        self._parked: dict[Entry, int] = {}
        self._seq = 0
        self._frozen: list[tuple[int, int]] = []
        self._to_take = 0

    @classmethod
    def create(cls, directory: Path, *, cells: int) -> Self:
        """Begin with nothing counted.

        Raises:
            SpoolError: the files cannot be made.
        """
        try:
            while True:
                producer = uuid.uuid4().hex
                if (lock := _locked(directory, producer, os.O_CREAT | os.O_EXCL)) is not None:
                    break
            spool = cls(directory, producer, lock)
            spool._open(os.O_CREAT | os.O_EXCL, size_bytes=cells * _CELL_BYTES)
            spool._write(["v", _FORMAT])
        except OSError as error:
            raise _failure(directory, error) from error
        return spool

    @classmethod
    def adopt_all(cls, directory: Path) -> Iterator[Self]:
        """Take over what processes have left that are no more.

        Raises:
            SpoolError: what they left cannot be read.
        """
        for path in sorted(directory.glob("*.lock")):
            lock = None if path.stem in _own else _locked(directory, path.stem, 0)
            if lock is None:
                continue
            spool = cls(directory, path.stem, lock)
            if spool._stem.with_suffix(".journal").exists():
                spool._recover()
                yield spool
            else:
                spool.remove()  # it died before it counted anything, or after all was sent

    @property
    def pending(self) -> int:
        """Distinct entries that the log does not have."""
        return len(self.live) + len(self._frozen)

    @property
    def size_bytes(self) -> int:
        """Length of the journal, which grows with each flush."""
        return self._journal_bytes

    def has_room(self, entries: int) -> bool:
        """Tell whether so many new entries still have a cell."""
        return len(self._entries) + entries <= len(self._cells)

    def add_to_live(self, entry: Entry, amount: int) -> bool:
        """Count an entry that is live already, which is one store; tell whether it is."""
        if (cell := self.live.get(entry)) is None:
            return False
        cells: Any = self._cells
        cells[cell] += amount
        return True

    def add(self, counts: Mapping[Entry, int]) -> None:
        """Count: when this returns, it is on disk (in the page cache), all of it.

        Raises:
            SpoolError: the disk takes no more; nothing was counted.
        """
        live, parked = self.live, self._parked
        if new := [entry for entry in counts if entry not in live and entry not in parked]:
            self._define(new)
        cells: Any = self._cells
        for entry, amount in counts.items():
            cell = live.get(entry)
            if cell is None:
                cell = live[entry] = parked.pop(entry)
            cells[cell] += amount

    def seal(self) -> None:
        """Take no more than what is live now."""
        self._to_take = len(self.live)

    def take(self) -> Batch | None:
        """Freeze the next batch; the same one again until it is settled.

        Raises:
            SpoolError: it cannot be written down.
        """
        if not self._frozen and self._to_take:
            chosen = list(islice(self.live.items(), min(self._to_take, FLUSH_ENTRIES)))
            frozen = [(cell, min(self._cells[cell] - self._taken[cell], MAX_AMOUNT)) for _, cell in chosen]
            self._write(["b", self._seq + 1, frozen])
            self._to_take -= len(chosen)
            self._seq += 1
            self._frozen = frozen
            for (entry, cell), (_, amount) in zip(chosen, frozen, strict=True):
                self._taken[cell] += amount
                del self.live[entry]
                if self._taken[cell] == self._cells[cell]:
                    self._parked[entry] = cell
                else:  # more than one entry of the wire can say
                    self.live[entry] = cell
                    self._to_take += 1
        return self._batch() if self._frozen else None

    def settle(self) -> None:
        """Forget the frozen batch.

        Raises:
            SpoolError: that cannot be written down; the batch stays, and the log will know it.
        """
        self._write(["a", self._seq])
        self._frozen = []

    def close(self) -> None:
        """Give the files back; what is pending stays for whoever takes them over."""
        if self._map is not None:
            if isinstance(self._cells, memoryview):
                self._cells.release()
            self._map.close()
            self._map = None
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1  # a flusher that is late must not write into whatever gets this number next
        _own.discard(self.producer)
        os.close(self._lock)

    def remove(self) -> None:
        """Delete the files: the log has everything."""
        for suffix in (".journal", ".cells", ".lock"):  # without its journal nobody reads the rest
            self._stem.with_suffix(suffix).unlink(missing_ok=True)
        self.close()

    def _batch(self) -> Batch:
        groups: dict[Group, dict[str, int]] = {}
        for cell, amount in self._frozen:
            hour, context, outcome, key = self._entries[cell]
            groups.setdefault((hour, context, outcome), {})[key] = amount
        return Batch(producer=self.producer, seq=self._seq, groups=tuple(groups.items()))

    def _define(self, entries: list[Entry]) -> None:
        first = len(self._entries)
        self._write(*(["e", first + offset, *entry] for offset, entry in enumerate(entries)))
        for offset, entry in enumerate(entries):
            self._parked[entry] = first + offset
        self._entries += entries
        self._taken += [0] * len(entries)

    def _open(self, flags: int, *, size_bytes: int) -> None:
        cells = os.open(self._stem.with_suffix(".cells"), os.O_RDWR | os.O_CLOEXEC | flags, _MODE)
        try:
            if size_bytes:
                os.posix_fallocate(cells, 0, size_bytes)  # a full disk must not show as a bus error later
            self._map = mmap.mmap(cells, size_bytes or os.fstat(cells).st_size)
        finally:
            os.close(cells)
        self._cells = memoryview(self._map).cast("Q")
        journal_flags = os.O_RDWR | os.O_CLOEXEC | flags
        self._journal = os.open(self._stem.with_suffix(".journal"), journal_flags, _MODE)

    def _write(self, *records: list[Any]) -> None:
        lines = b"".join(map(_line, records))
        try:
            written = os.pwrite(self._journal, lines, self._journal_bytes)
        except OSError as error:
            raise _failure(self._stem.parent, error) from error
        if written < len(lines):  # the next attempt overwrites the piece
            os.ftruncate(self._journal, self._journal_bytes)
            raise _failure(self._stem.parent, OSError("the disk is full"))
        self._journal_bytes += written

    def _recover(self) -> None:
        path = self._stem.with_suffix(".journal")
        try:
            self._open(0, size_bytes=0)
            for record in _records(path.read_bytes()):
                self._replay(*record)
            self._journal_bytes = sum(len(_line(record)) for record in _records(path.read_bytes()))
            os.ftruncate(self._journal, self._journal_bytes)  # a torn last line
        except (OSError, ValueError, IndexError, TypeError) as error:
            self.close()
            msg = f"{path} cannot be read ({error}): move the three files of that name away to go on without them"
            raise SpoolError(msg) from error
        for cell, entry in enumerate(self._entries):
            pending = self._cells[cell] > self._taken[cell]
            (self.live if pending else self._parked)[entry] = cell

    def _replay(self, kind: str, *fields: Any) -> None:
        if kind == "e":
            self._entries.append((fields[1], fields[2], fields[3], fields[4]))
            self._taken.append(0)
        elif kind == "b":
            self._seq, frozen = fields
            self._frozen = [(cell, amount) for cell, amount in frozen]
            for cell, amount in self._frozen:
                self._taken[cell] += amount
        elif kind == "a":
            self._frozen = []
        elif kind != "v" or fields != (_FORMAT,):
            msg = f"unknown format {kind!r}"
            raise ValueError(msg)


def _locked(directory: Path, producer: str, flags: int) -> int | None:
    """Lock the producer's files; None if another process has them or had them a moment ago."""
    path = directory / f"{producer}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, _MODE)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:
            _own.add(producer)
            return lock
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _line(record: list[Any]) -> bytes:
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _records(journal: bytes) -> Iterator[list[Any]]:
    """Read the lines up to the first that is not whole.

    Raises:
        ValueError: it is not the last one, so the file is damaged.
    """
    lines = journal.split(b"\n")
    for number, line in enumerate(lines):
        checksum, _, body = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body) or not body:
            if number < len(lines) - 1:
                msg = f"line {number + 1} is damaged"
                raise ValueError(msg)
            return
        if number < len(lines) - 1:
            yield json.loads(body)


def _failure(directory: Path, error: OSError) -> SpoolError:
    return SpoolError(f"the spool in {directory} cannot be written: {error.strerror or error}")
