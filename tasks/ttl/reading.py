"""Traces in files: CSV with a line of names, plain or packed by gzip or zstd.

ts_s      seconds as a number, from any origin; lines need not be in order
key       any text
family    optional; `all` without it
size      optional, bytes of the value; empty where it is not known
op        optional: get (the default), set or delete
"""

from __future__ import annotations

import csv
import gzip
import math
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

import numpy as np
import zstandard

from tasks.errors import PermanentError
from tasks.ttl.traces import Operation, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

COLUMNS: Final = ("ts_s", "key", "family", "size", "op")
_NEEDED: Final = frozenset({"ts_s", "key"})
_OPERATIONS: Final = {one.name.lower(): int(one) for one in Operation} | {"": int(Operation.GET)}
_MOST_SECONDS: Final = 1e12
_LINES_A_TICK: Final = 100_000
_UNKNOWN_SIZE: Final = -1
_MOST_BYTES: Final = 2**62


class InvalidTraceError(PermanentError):
    """A file is no trace; the text names the line."""


@dataclass(slots=True, kw_only=True)
class _Columns:
    """What was read so far."""

    at_ms: array[int] = field(default_factory=lambda: array("q"))
    key: array[int] = field(default_factory=lambda: array("q"))
    operation: array[int] = field(default_factory=lambda: array("b"))
    family: array[int] = field(default_factory=lambda: array("i"))
    size: array[int] = field(default_factory=lambda: array("q"))
    keys: dict[tuple[int, str], int] = field(default_factory=dict)
    """A key is one within its family."""
    families: dict[str, int] = field(default_factory=dict)

    def take(self, ts_s: str, key: str, family: str, size: str, operation: str) -> None:
        """Take a line.

        Raises:
            ValueError: one of its cells is wrong; the text says which.
        """
        number = self.families.setdefault(family or "all", len(self.families))
        self.at_ms.append(_milliseconds(ts_s))
        self.size.append(_bytes(size))
        self.operation.append(_operation(operation))
        self.family.append(number)
        self.key.append(self.keys.setdefault((number, key), len(self.keys)))

    def trace(self) -> Trace:
        """Give what was read, in the order of time; lines of one instant stay in theirs."""
        at_ms = np.array(self.at_ms, dtype=np.int64)
        order = np.argsort(at_ms, kind="stable")
        size = np.array(self.size, dtype=np.int64)[order]
        return Trace(
            at_ms=at_ms[order],
            key=np.array(self.key, dtype=np.int64)[order],
            operation=np.array(self.operation, dtype=np.int8)[order],
            family=np.array(self.family, dtype=np.int32)[order],
            families=tuple(self.families),
            size_bytes=None if (size == _UNKNOWN_SIZE).all() else np.maximum(size, 0),
        )


def read_trace(file: Path, *, tick: Callable[[int], None] = lambda _lines: None) -> Trace:
    """Read a trace; `tick` hears now and then how many lines are read.

    Raises:
        InvalidTraceError: the file cannot be read, or a line of it is none.
    """
    with _lines_of(file) as lines:
        rows = csv.reader(lines)
        try:
            return _read(file, rows, tick)
        except csv.Error as error:
            msg = f"{file}, line {rows.line_num}: no CSV: {error}"
            raise InvalidTraceError(msg) from error


def _read(file: Path, rows: Iterator[list[str]], tick: Callable[[int], None]) -> Trace:
    names = [name.strip() for name in next(rows, [])]
    if not _NEEDED <= set(names) <= set(COLUMNS) or len(names) != len(set(names)):
        msg = f"{file}: the first line must name the columns: ts_s and key, and of family, size and op what there is"
        raise InvalidTraceError(msg)
    columns = _Columns()
    for number, cells in enumerate(_ordered(rows, names), start=2):
        try:
            columns.take(*cells)
        except ValueError as error:
            msg = f"{file}, line {number}: {error}"
            raise InvalidTraceError(msg) from None
        if number % _LINES_A_TICK == 0:
            tick(number)
    if not columns.at_ms:
        msg = f"{file} has no requests"
        raise InvalidTraceError(msg)
    return columns.trace()


def _ordered(rows: Iterable[Sequence[str]], names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Give each line's cells in the order of `COLUMNS`; what is not there is empty."""
    places = [names.index(name) if name in names else len(names) for name in COLUMNS]
    for row in rows:
        whole = [*row, ""]
        yield [whole[place] for place in places] if len(row) == len(names) else ["", *[""] * (len(COLUMNS) - 1)]


def _milliseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        msg = f"ts_s must be seconds as a number, not {text[:40]!r} (or the line has another number of columns)"
        raise ValueError(msg) from None
    if not math.isfinite(seconds) or abs(seconds) > _MOST_SECONDS:
        msg = f"ts_s must be seconds, not {text[:40]!r}"
        raise ValueError(msg)
    return round(seconds * 1_000)


def _bytes(text: str) -> int:
    if not text.strip():
        return _UNKNOWN_SIZE
    if not text.strip().isdecimal() or int(text) > _MOST_BYTES:
        msg = f"size must be a number of bytes, or empty, not {text[:40]!r}"
        raise ValueError(msg)
    return int(text)


def _operation(text: str) -> int:
    try:
        return _OPERATIONS[text.strip().lower()]
    except KeyError:
        msg = f"op must be get, set or delete, not {text[:40]!r}"
        raise ValueError(msg) from None


@contextmanager
def _lines_of(file: Path) -> Iterator[TextIOWrapper]:
    try:
        with file.open("rb") as packed:
            raw = packed
            if file.suffix == ".gz":
                raw = gzip.GzipFile(fileobj=packed)  # type: ignore[assignment]
            elif file.suffix == ".zst":
                raw = zstandard.ZstdDecompressor().stream_reader(packed)  # type: ignore[assignment]
            with TextIOWrapper(raw, encoding="utf-8-sig", newline="") as lines:
                yield lines
    except UnicodeDecodeError as error:
        msg = f"{file} is not UTF-8"
        raise InvalidTraceError(msg) from error
    except (OSError, EOFError, zstandard.ZstdError) as error:
        msg = f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InvalidTraceError(msg) from error
