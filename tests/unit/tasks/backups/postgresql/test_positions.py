"""Places in the write-ahead log are read and written as the server does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backups.postgresql.positions import parse_position, position_text, segment_name
from tasks.errors import PermanentError

_MIB = 1024 * 1024


@given(st.integers(0, 2**64 - 1))
def test_a_place_comes_back(position: int) -> None:
    """Written and read, it is the same."""
    assert parse_position(position_text(position)) == position


def test_places_are_ordered_by_number_and_not_by_text() -> None:
    """`9/0` is before `10/0`."""
    assert parse_position("9/0") < parse_position("10/0")


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "0/0; DROP TABLE x", "0/123456789"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """Places come from manifests too, and go to a server from there."""
    with pytest.raises(PermanentError):
        parse_position(text)


@pytest.mark.parametrize(
    ("position", "timeline", "segment_mib", "name"),
    [
        ("0/3005CA0", 1, 16, "000000010000000000000003"),
        ("0/3000000", 1, 16, "000000010000000000000003"),
        ("16/B374D848", 1, 16, "0000000100000016000000B3"),
        ("16/B374D848", 10, 1, "0000000A0000001600000B37"),
        ("1/FFFFFFFF", 1, 1024, "000000010000000100000003"),
    ],
)
def test_the_file_of_a_place_is_named_as_the_server_does(
    position: str, timeline: int, segment_mib: int, name: str
) -> None:
    """`pg_walfile_name` gives the same, whatever the size of a segment."""
    assert segment_name(parse_position(position), timeline=timeline, segment_bytes=segment_mib * _MIB) == name
