"""Two tables have one fingerprint if and only if they hold the same rows."""

from __future__ import annotations

import math
import struct
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.backups.fingerprints import Fingerprint, SqlValue, fingerprint_of

if TYPE_CHECKING:
    import random

Row = tuple[SqlValue, ...]

values: st.SearchStrategy[SqlValue] = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(("", b"", 0, 1, 0.0, -0.0, 1.0, "1", b"1", "NULL", math.nan, math.inf, -math.inf))
)


def _tables(least: int) -> st.SearchStrategy[list[Row]]:
    return st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[values] * width), min_size=least, max_size=12))


tables = _tables(0)


def _encoded(row: Row) -> bytes:
    """Write a row down as the module does, by a second implementation."""
    parts = [b"(", struct.pack("<i", len(row))]
    for value in row:
        match value:
            case None:
                parts.append(b"N")
            case int() if -(2**31) <= value < 2**31:
                parts.append(b"i" + struct.pack("<i", value))
            case int():
                parts.append(_long(value))
            case float():
                parts.append(b"g" + struct.pack("<d", value))
            case str():
                text = value.encode("utf-8", "surrogatepass")
                parts.append(b"u" + struct.pack("<i", len(text)) + text)
            case bytes():
                parts.append(b"s" + struct.pack("<i", len(value)) + value)
    return b"".join(parts)


def _long(value: int) -> bytes:
    digits, left = [], abs(value)
    while left:
        digits.append(left % 2**15)
        left //= 2**15
    count = -len(digits) if value < 0 else len(digits)
    return b"l" + struct.pack(f"<i{len(digits)}H", count, *digits)


def _second(rows: list[Row]) -> str:
    hashes = (xxhash.xxh3_128_digest(_encoded(row)) for row in rows)
    return f"v2:{sum(int.from_bytes(one, 'big') for one in hashes) % 2**128:032x}"


@settings(max_examples=300)
@given(tables)
def test_is_what_it_says(rows: list[Row]) -> None:
    """A second implementation of the encoding and of the sum comes to the same: it hangs on no whim of the first."""
    assert fingerprint_of(rows) == _second(rows)


@settings(max_examples=300)
@given(tables, tables)
def test_same_rows_same_fingerprint_other_rows_another(one: list[Row], other: list[Row]) -> None:
    """Rows are the same if their encodings are; how often each is there counts."""
    is_same = Counter(map(_encoded, one)) == Counter(map(_encoded, other))
    assert (fingerprint_of(one) == fingerprint_of(other)) == is_same


@given(tables, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(rows: list[Row], chance: random.Random) -> None:
    """Nor in how many pieces they come."""
    mixed = list(rows)
    chance.shuffle(mixed)
    pieces = Fingerprint()
    for at in range(0, len(mixed), 3):
        pieces.add(mixed[at : at + 3])
    assert str(pieces) == fingerprint_of(rows)
    assert pieces.rows == len(rows)


@given(_tables(1), st.data())
def test_any_one_change_matters(rows: list[Row], choice: st.DataObject) -> None:
    """One value, one row more, one row less, one row twice."""
    at = choice.draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    column = choice.draw(st.integers(0, len(row) - 1))
    value = choice.draw(values.filter(lambda value: _encoded((value,)) != _encoded((row[column],))))
    changed = (*row[:column], value, *row[column + 1 :])
    others = [
        [*rows[:at], changed, *rows[at + 1 :]],
        [*rows[:at], *rows[at + 1 :]],
        [*rows, row],
        [*rows, changed],
        [*rows[:at], (*row, None), *rows[at + 1 :]],
    ]
    assert fingerprint_of(rows) not in map(fingerprint_of, others)


DIFFERENT: list[SqlValue] = [
    None, 0, 0.0, -0.0, "", b"", "0", b"0", 1, 1.0, "1", b"1", "1.0", math.nan, math.inf, -math.inf, "nan", "inf",
    2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53, 2.0**53, 2**63 - 1, -(2**63), 2.0**63,
    "a", "A", "a ", "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "a\0", "a\0b",
    "\udc80", b"\x80", "\N{GRINNING FACE}", 5e-324, 1e308,
]  # fmt: skip


def test_values_that_look_alike_differ() -> None:
    """NULL, zero, nothing, and every type of one; text is compared by its code points, and not normalised."""
    assert len({fingerprint_of([(value,)]) for value in DIFFERENT}) == len(DIFFERENT)


def test_columns_are_in_order() -> None:
    """Two columns exchanged, or a value that moved over a border, make another table."""
    assert fingerprint_of([("a", "b")]) != fingerprint_of([("b", "a")])
    assert fingerprint_of([("ab", "c")]) != fingerprint_of([("a", "bc")])
    assert fingerprint_of([("a",), ("b",)]) != fingerprint_of([("a", "b")])


@pytest.mark.parametrize(
    ("rows", "fingerprint"),
    [
        ([], "v2:00000000000000000000000000000000"),
        ([(1,)], "v2:9a75ef5661da0607ac020da06cf9c80d"),
        ([(1, None, 1.5, "text", b"blob"), (2**40, -1, -0.0, "", b"")], "v2:37c87efc6029c4314d46ecef557cc9ca"),
    ],
)
def test_fingerprints_that_stand_in_manifests(rows: list[Row], fingerprint: str) -> None:
    """A release that comes to another result would call all older points damaged: it has to say `v3:`."""
    assert fingerprint_of(rows) == fingerprint
