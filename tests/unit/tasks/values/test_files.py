"""Files of values: what is written is read back, and a line that is none is told and harms no other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.values.files import FORMATS, BadLine, FileFormat, GoodLine, format_of, read_lines, write_lines
from tasks.values.values import DefaultValue, InvalidValueError

if TYPE_CHECKING:
    from tasks.values.changes import Change

NOW = datetime(2026, 3, 1, tzinfo=UTC)

# Everything that a database can store; of control characters the two that CSV itself is made of matter most.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TAG = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=","), min_size=1, max_size=8).filter(
    lambda tag: tag == tag.strip()
)


@st.composite
def values(draw: st.DrawFn) -> DefaultValue:
    return DefaultValue(
        key=draw(TEXT.filter(bool)),
        context=draw(TEXT),
        value=draw(JSON),
        version=draw(st.integers(1, 9)),
        tags=tuple(sorted(draw(st.sets(TAG, max_size=3)))),
        created_at=NOW,
        updated_at=NOW,
    )


def good(line: Any) -> Change:
    assert isinstance(line, GoodLine), line
    return line.change


@pytest.mark.parametrize("file_format", FORMATS)
@given(written=st.lists(values(), max_size=5))
def test_what_is_written_is_read(file_format: FileFormat, written: list[DefaultValue], tmp_path_factory: Any) -> None:
    """Whatever is in keys, contexts, values and tags."""
    file = tmp_path_factory.mktemp("files") / f"values.{file_format}"
    with file.open("w", encoding="utf-8", newline="") as out:
        out.writelines(write_lines(written, file_format))
    with file.open(encoding="utf-8", newline="") as lines:
        changes = [good(line) for line in read_lines(lines, file_format, action="update")]
    read = [(one.address, repr(one.value), one.tags, one.expected_version) for one in changes]
    wanted = [(one.address, repr(one.value), one.tags or None, one.version) for one in written]
    if file_format == "jsonl":
        wanted = [(one.address, repr(one.value), one.tags, one.version) for one in written]
    assert read == wanted


BAD_JSON_LINES = [
    "nonsense",
    "[]",
    '{"key": "k"}',
    '{"value": 1}',
    '{"key": "", "value": 1}',
    '{"key": 1, "value": 1}',
    '{"key": "k", "value": NaN}',
    '{"key": "k", "value": 9223372036854775808}',
    '{"key": "k", "value": "a\\u0000b"}',
    '{"key": "k", "value": "\\ud800"}',
    '{"key": "k", "value": 1, "tags": "x"}',
    '{"key": "k", "value": 1, "tags": ["a,b"]}',
    '{"key": "k", "value": 1, "version": 0}',
    '{"key": "k", "value": 1, "version": true}',
    '{"key": "k", "value": 1, "vaule": 2}',
    '{"key": "k", "value": ' + "[" * 40 + "]" * 40 + "}",
    '{"key": "k", "value": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"key": "k", "value": "' + "x" * 70_000 + '"}',
]


@pytest.mark.parametrize("line", BAD_JSON_LINES, ids=range(len(BAD_JSON_LINES)))
def test_a_line_that_is_no_value_is_told(line: str) -> None:
    """With its number and in few words; the line after it is read."""
    first, second = read_lines([line + "\n", '{"key": "k", "value": 1}\n'], "jsonl", action="set")
    assert isinstance(first, BadLine)
    assert first.number == 1
    assert 0 < len(first.detail) < 300
    assert good(second).value == 1


def test_a_row_of_csv_that_is_no_value_is_told() -> None:
    """Too many columns, a text without quotes, an unknown version: each by its line."""
    rows = ["key,value,version", "k,1", "k,hello,", 'k,"""hello""",', "k,1,one", "k,1,2", "", 'k,"1', '2",']
    lines = list(read_lines([f"{row}\n" for row in rows], "csv", action="set"))
    assert [(line.number, isinstance(line, GoodLine)) for line in lines] == [
        (2, False),
        (3, False),
        (4, True),
        (5, False),
        (6, True),
        (8, False),
    ]
    assert isinstance(lines[1], BadLine)
    assert "needs quotes" in lines[1].detail


@pytest.mark.parametrize("names", ["", "key", "value,context", "key,value,key", "key,value,other"])
def test_a_csv_names_its_columns(names: str) -> None:
    """Else nobody knows what is in them."""
    with pytest.raises(InvalidValueError, match="first line"):
        list(read_lines([names + "\n"], "csv", action="set"))


def test_a_name_says_what_a_file_is() -> None:
    """And one that does not is refused."""
    assert (format_of("a.CSV"), format_of("b.jsonl")) == ("csv", "jsonl")
    with pytest.raises(InvalidValueError, match=r"end it in \.csv or \.jsonl"):
        format_of("values.json")
