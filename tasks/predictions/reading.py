"""Files of uses: CSV (plain, gzip or zstd) or Parquet, with the columns ts, known_at, entity, context, value, accepted.

ts         when the value was used: ISO 8601, with a zone or else in UTC
known_at   when it was known whether it was right; empty or missing: at ts
entity     who or what it was used for
context    where, its parts parted by `|`; may be missing
value      what it was; empty where that is to be predicted
accepted   1 or true, 0 or false, empty where nobody knows; may be missing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tasks.errors import PermanentError
from tasks.predictions.events import UNKNOWN, Events, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

COLUMNS: Final = ("ts", "known_at", "entity", "context", "value", "accepted")
NEEDED: Final = ("ts", "entity")
LONGEST_TEXT: Final = 4_096
"""Characters of an entity, a context or a value."""
_MOST_PARTS: Final = 6
_EARLIEST_US: Final = -2_208_988_800_000_000  # 1900
_LATEST_US: Final = 4_102_444_800_000_000  # 2100
_SHOWN: Final = 20
_NONE: Final = -1
_TRUE: Final = ("1", "true", "t", "yes", "y", "1.0")
_FALSE: Final = ("0", "false", "f", "no", "n", "0.0")


class InvalidEventsError(PermanentError):
    """A file holds no uses; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """A row that cannot be used."""

    row: int
    """Counted from 0, without the line of names."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEvents:
    """What a file holds."""

    events: Events
    """In the order of time; rows of one instant in that of the file."""
    rows: NDArray[np.int64]
    """For each of them, its row in the file."""
    refused_rows: NDArray[np.int64]
    """Rows that are left out."""
    refused_for: NDArray[np.int8]
    """For each of them, the place of its reason in `reasons`."""
    reasons: Sequence[str]

    @property
    def refused(self) -> int:
        """How many rows are left out."""
        return len(self.refused_rows)

    @property
    def errors(self) -> list[RowError]:
        """Give the first of them, for people."""
        first = zip(self.refused_rows[:_SHOWN].tolist(), self.refused_for[:_SHOWN].tolist(), strict=True)
        return [RowError(row=row, reason=self.reasons[number]) for row, number in first]


def read_events(file: Path, *, teaching: bool) -> ReadEvents:
    """Read a file; `teaching` rows must say what value was used.

    Raises:
        InvalidEventsError: it cannot be read, lacks a column, or has no row that can be used.
    """
    table = _table(file)
    missing = [name for name in (*NEEDED, *(("value",) if teaching else ())) if name not in table.column_names]
    if missing:
        msg = f"{file.name} has no column {', '.join(missing)}; needed are ts, entity{', value' if teaching else ''}"
        raise InvalidEventsError(msg)
    return _Reader(table, teaching=teaching).read(file.name)


def _table(file: Path) -> pa.Table:
    try:
        if file.suffix == ".parquet":
            table = pyarrow.parquet.read_table(file)
        else:
            texts = dict.fromkeys(COLUMNS, pa.string())
            with pa.input_stream(str(file), compression="detect") as stream:
                table = pyarrow.csv.read_csv(
                    stream,
                    convert_options=pyarrow.csv.ConvertOptions(
                        column_types=texts, strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=True
                    ),
                    parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                )
    except (OSError, pa.ArrowException) as error:
        msg = f"{file.name} cannot be read: {str(error).splitlines()[0]}"
        raise InvalidEventsError(msg) from error
    return table.select([name for name in COLUMNS if name in table.column_names])


class _Reader:
    """Turns a table into arrays, and keeps what was wrong with which row."""

    def __init__(self, table: pa.Table, *, teaching: bool) -> None:
        self._table = table
        self._teaching = teaching
        self._reason = np.full(table.num_rows, _NONE, dtype=np.int8)
        self._reasons: list[str] = []

    def read(self, name: str) -> ReadEvents:
        at_us = self._instants("ts")
        known_at_us = np.maximum(self._instants("known_at", instead=at_us), at_us)
        entity, entities = self._texts("entity", is_needed=True)
        value, values = self._texts("value", is_needed=self._teaching)
        context, contexts = self._texts("context", is_needed=False, instead="")
        accepted = self._outcomes()
        rows, refused = np.flatnonzero(self._reason == _NONE), np.flatnonzero(self._reason != _NONE)
        rows = rows[np.argsort(at_us[rows], kind="stable")]
        if not len(rows):
            why = f"; row 0: {self._reasons[self._reason[0]]}" if len(refused) else ""
            msg = f"{name} has no usable row{why}"
            raise InvalidEventsError(msg)
        parts, part_texts = split_contexts(contexts, context)
        events = Events(
            at_us=at_us,
            known_at_us=known_at_us,
            entity=entity,
            value=value,
            accepted=accepted,
            context=context,
            parts=parts,
            entities=entities,
            values=values,
            contexts=contexts,
            part_texts=part_texts,
        )
        return ReadEvents(
            events=events.at(rows),
            rows=rows,
            refused_rows=refused,
            refused_for=self._reason[refused],
            reasons=self._reasons,
        )

    def _refuse(self, wrong: NDArray[np.bool_], reason: str) -> None:
        """Leave rows out; the first reason of a row stands."""
        self._reason[wrong & (self._reason == _NONE)] = len(self._reasons)
        self._reasons.append(reason)

    def _instants(self, name: str, *, instead: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        if name not in self._table.column_names:
            assert instead is not None  # noqa: S101  ts is needed, and was asked for
            return instead
        column = self._table[name].combine_chunks()
        given = column.is_valid().to_numpy(zero_copy_only=False)
        us, is_instant = _microseconds(column)
        self._refuse(given & ~is_instant, f"{name} is no instant: write 2026-01-31T12:00:00Z")
        if instead is None:
            self._refuse(~given, f"{name} is empty")
            return np.where(is_instant, us, 0)
        return np.where(given & is_instant, us, instead)

    def _texts(self, name: str, *, is_needed: bool, instead: str | None = None) -> tuple[NDArray[np.int64], Vocabulary]:
        if name not in self._table.column_names:
            texts = pa.array([instead] * self._table.num_rows, type=pa.string())
        else:
            texts = pc.cast(self._table[name].combine_chunks(), pa.string())
        if instead is not None:
            texts = pc.fill_null(texts, instead)
        if is_needed:
            empty = pc.equal(pc.fill_null(texts, ""), "").to_numpy(zero_copy_only=False)
            self._refuse(empty, f"{name} is empty")
        long = pc.greater(pc.utf8_length(pc.fill_null(texts, "")), LONGEST_TEXT).to_numpy(zero_copy_only=False)
        self._refuse(long, f"{name} has more than {LONGEST_TEXT} characters")
        encoded = pc.dictionary_encode(texts)
        numbers = pc.fill_null(encoded.indices, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
        return numbers, Vocabulary.of([str(text) for text in encoded.dictionary.to_pylist()])

    def _outcomes(self) -> NDArray[np.int8]:
        if "accepted" not in self._table.column_names:
            return np.full(self._table.num_rows, UNKNOWN, dtype=np.int8)
        column = self._table["accepted"].combine_chunks()
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(pc.cast(column, pa.string()), "")))
        right, wrong, empty = (
            pc.is_in(texts, value_set=pa.array(words)).to_numpy(zero_copy_only=False)
            for words in (_TRUE, _FALSE, ("",))
        )
        self._refuse(~(right | wrong | empty), "accepted is neither 1 nor 0 nor empty")
        return np.where(right, 1, np.where(wrong, 0, UNKNOWN)).astype(np.int8)


def split_contexts(
    contexts: Vocabulary, context: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[Vocabulary, ...]]:
    """Split contexts into their parts: one column a part, of which there are six at most."""
    split = [text.split("|")[:_MOST_PARTS] for text in contexts.texts]
    width = max(map(len, split), default=1)
    columns, vocabularies = [], []
    for place in range(width):
        numbers: dict[str, int] = {}
        column = [numbers.setdefault(one[place], len(numbers)) if place < len(one) else UNKNOWN for one in split]
        columns.append(np.array([*column, UNKNOWN], dtype=np.int64)[context])
        vocabularies.append(Vocabulary(texts=list(numbers), numbers=numbers))
    return np.stack(columns, axis=1), tuple(vocabularies)


def _microseconds(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read instants; the second array tells which of them are some."""
    if pa.types.is_timestamp(column.type):
        whole = pc.cast(column, pa.timestamp("us", tz=column.type.tz), safe=False)
        us = pc.fill_null(pc.cast(whole, pa.int64()), 0).to_numpy(zero_copy_only=False)
        return us, _is_sane(us)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        seconds = pc.fill_null(pc.cast(column, pa.float64()), np.nan).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            is_number = np.isfinite(seconds) & (np.abs(seconds) < _LATEST_US / 1e6)
        us = np.where(is_number, seconds * 1e6, 0).astype(np.int64)
        return us, is_number & _is_sane(us)
    return _from_texts(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))


def _from_texts(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    try:
        return _cast(texts), np.ones(len(texts), dtype=np.bool_)
    except pa.ArrowInvalid:
        pass
    # One of them is none, or they differ in form: one by one, each different text once.
    encoded = pc.dictionary_encode(texts)
    us, good = [], []
    for text in encoded.dictionary:
        try:
            us.append(int(_cast(pa.array([text.as_py()], type=pa.string()))[0]))
            good.append(True)
        except pa.ArrowInvalid:
            us.append(0)
            good.append(False)
    place = pc.fill_null(encoded.indices, len(us)).to_numpy(zero_copy_only=False)
    return np.array([*us, 0], dtype=np.int64)[place], np.array([*good, False])[place]


def _cast(texts: pa.Array) -> NDArray[np.int64]:
    """Raise ArrowInvalid unless all of them are instants."""
    try:
        instants = pc.cast(texts, pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        instants = pc.cast(texts, pa.timestamp("us"))
    us: NDArray[np.int64] = pc.fill_null(pc.cast(instants, pa.int64()), 0).to_numpy(zero_copy_only=False)
    if not _is_sane(us).all():
        msg = "an instant before 1900 or after 2100"
        raise pa.ArrowInvalid(msg)
    return us


def _is_sane(us: NDArray[np.int64]) -> NDArray[np.bool_]:
    sane: NDArray[np.bool_] = (us >= _EARLIEST_US) & (us <= _LATEST_US)
    return sane
