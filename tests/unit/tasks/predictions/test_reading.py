"""Files of uses, as people have them."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.predictions.events import UNKNOWN
from tasks.predictions.reading import InvalidEventsError, read_events
from tasks.predictions.store.history import read_history, write_history

if TYPE_CHECKING:
    from pathlib import Path

_GOOD = "2026-01-02T03:04:05Z,2026-01-02T09:04:05Z,e,a|b,v,1"
_NAMES = "ts,known_at,entity,context,value,accepted"


def test_a_file_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    """Whatever its own order is; each row remembers its place."""
    later = _GOOD.replace("2026-01-02", "2027-01-02")
    read = read_events(_written(tmp_path, later, _GOOD), teaching=True)
    assert read.rows.tolist() == [1, 0]
    assert read.events.at_us[0] == int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()) * 1_000_000
    assert read.events.known_at_us[0] - read.events.at_us[0] == 6 * 3600 * 1_000_000
    assert [len(part) for part in read.events.part_texts] == [1, 1]
    assert read.refused == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_GOOD.replace("2026-01-02T03:04:05Z", "yesterday"), "ts is no instant"),
        (_GOOD.replace("2026-01-02T03:04:05Z", ""), "ts is empty"),
        (_GOOD.replace("2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z"), "ts is no instant"),
        (_GOOD.replace("2026-01-02T09:04:05Z", "later"), "known_at is no instant"),
        (_GOOD.replace(",e,", ",,"), "entity is empty"),
        (_GOOD.replace(",v,", ",,"), "value is empty"),
        (_GOOD.replace(",1", ",2"), "accepted is neither"),
        (_GOOD.replace(",1", ",nan"), "accepted is neither"),
        (_GOOD.replace(",e,", f",{'x' * 1_000_000},"), "entity has more than"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_and_the_rest_is_read(tmp_path: Path, row: str, reason: str) -> None:
    """By its number and with what is wrong."""
    read = read_events(_written(tmp_path, _GOOD, row, _GOOD), teaching=True)
    assert len(read.events) == 2
    assert [error.row for error in read.errors] == [1]
    assert read.errors[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("a,b\n1,2\n", "has no column ts, entity, value"),
        (f"{_NAMES}\n", "has no usable row"),
        (f"{_NAMES}\nx,,,,,\n", "has no usable row; row 0: ts is no instant"),
        (f"{_NAMES}\n1,2\n", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """In one line."""
    file = tmp_path / "uses.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidEventsError, match=reason):
        read_events(file, teaching=True)


def test_what_is_not_said_is_not_invented(tmp_path: Path) -> None:
    """Without outcomes nothing is known, without contexts all are one, without known_at a use is known at once."""
    file = tmp_path / "uses.csv"
    file.write_text("ts,entity\n2026-01-01 00:00:00,e\n2026-01-01T01:00:00+01:00,f\n", encoding="utf-8")
    events = read_events(file, teaching=False).events
    assert events.value.tolist() == events.accepted.tolist() == [UNKNOWN, UNKNOWN]
    assert events.context.tolist() == [0, 0]
    assert events.known_at_us.tolist() == events.at_us.tolist()
    assert events.at_us[0] == events.at_us[1]
    assert not events.taught.any()


def test_an_outcome_is_not_known_before_the_use(tmp_path: Path) -> None:
    """A clock that says so is not believed."""
    read = read_events(_written(tmp_path, _GOOD.replace("2026-01-02T09", "2025-01-02T09")), teaching=True)
    assert read.events.known_at_us.tolist() == read.events.at_us.tolist()


def test_formats_say_the_same(tmp_path: Path) -> None:
    """Plain, packed, Parquet with times, numbers and booleans."""
    plain = read_events(_written(tmp_path, _GOOD), teaching=True).events
    packed = tmp_path / "uses.csv.gz"
    packed.write_bytes(gzip.compress(f"{_NAMES}\n{_GOOD}\n".encode()))
    table = tmp_path / "uses.parquet"
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    columns = {"ts": [at], "known_at": [at.timestamp() + 21_600], "entity": ["e"], "context": ["a|b"], "value": ["v"]}
    pyarrow.parquet.write_table(pa.table({**columns, "accepted": [True]}), table)
    for other in (packed, table):
        events = read_events(other, teaching=True).events
        for column in ("at_us", "known_at_us", "entity", "value", "accepted", "context", "parts"):
            assert getattr(events, column).tolist() == getattr(plain, column).tolist()


@given(cells=st.lists(st.text(max_size=12), min_size=6, max_size=6))
def test_whatever_is_in_a_row_it_is_read_or_refused(cells: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """And a history that was read is written and read again as it is."""
    quoted = ",".join('"' + cell.replace('"', '""').replace("\0", "") + '"' for cell in cells)
    file = _written(tmp_path_factory.mktemp("any"), _GOOD, quoted)
    try:
        read = read_events(file, teaching=True)
    except InvalidEventsError:
        return
    assert len(read.events) + read.refused in {1, 2}
    kept = file.with_suffix(".parquet")
    write_history(kept, read.events)
    again = read_history(kept.read_bytes())
    assert again.value.tolist() == read.events.value.tolist()
    assert again.values.texts[again.value[0]] == read.events.values.texts[read.events.value[0]]


def _written(directory: Path, *rows: str) -> Path:
    file = directory / "uses.csv"
    file.write_text("\n".join([_NAMES, *rows, ""]), encoding="utf-8")
    return file
