"""The sample is what its README says, and nothing else passes for it."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from workers.demo.events import Event, MalformedEventsError, read_events

_DATA = Path(__file__).parents[4] / "data"
_HEADER = "ts,known_at,entity,context,value,accepted\n"
_ROW = "2013-01-01T10:15:00Z,2013-01-01T16:15:00Z,UA1545,EWR|Tue|05,IAH,1\n"


@pytest.fixture(scope="module")
def sample() -> list[Event]:
    return list(read_events(_DATA / "events.csv.gz"))


def test_the_sample_has_the_counts_its_readme_says(sample: list[Event]) -> None:
    """Rows, outcomes, keys and contexts are those that data/README.md states."""
    assert len(sample) == 35_354
    assert sum(event.accepted for event in sample) == 27_006
    assert len({event.entity for event in sample}) == 1_349
    assert len({event.value for event in sample}) == 54
    assert len({event.context for event in sample}) == 372
    assert len({event.key for event in sample}) == 2_332
    readme = (_DATA / "README.md").read_text(encoding="utf-8")
    assert all(number in readme for number in ("35,354", "27,006", "1,349", "2,332", "730"))


def test_the_sample_covers_the_first_quarter_in_order(sample: list[Event]) -> None:
    """It begins and ends with the quarter as New York dates it, sorted, every outcome known six hours later."""
    assert sample[0].at == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert sample[-1].at == datetime(2013, 4, 1, 3, 59, tzinfo=UTC)
    assert all(one.at <= next_.at for one, next_ in pairwise(sample))
    assert {event.known_at - event.at for event in sample} == {timedelta(hours=6)}


def test_the_sample_has_the_shape_of_defaults(sample: list[Event]) -> None:
    """Three carriers; the most frequent value of an entity is its usual one, and it changes now and then."""
    assert Counter(event.entity[:2] for event in sample) == {"UA": 13_954, "B6": 13_302, "AA": 8_098}
    values: dict[str, Counter[str]] = {}
    for event in sample:
        values.setdefault(event.entity, Counter())[event.value] += 1
    usual = sum(counter.most_common(1)[0][1] for counter in values.values())
    assert 0.8 < usual / len(sample) < 0.99


def test_the_content_has_the_checksum_its_readme_says() -> None:
    """The README's second checksum is that of the unpacked events."""
    content = gzip.decompress((_DATA / "events.csv.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() in (_DATA / "README.md").read_text(encoding="utf-8")


def test_a_row_becomes_an_event(tmp_path: Path) -> None:
    """The key is entity/value; instants are aware."""
    (event,) = read_events(_written(tmp_path, _HEADER + _ROW))
    assert (event.key, event.context, event.accepted) == ("UA1545/IAH", "EWR|Tue|05", True)
    assert event.at == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("", 0, "the columns are ''"),
        ("ts,entity\n", 1, "the columns are 'ts,entity'"),
        (_HEADER + _ROW + "a,b\n", 3, "2 columns, expected 6"),
        (_HEADER + _ROW.replace(",1\n", ",yes\n"), 2, "accepted must be 0 or 1, not 'yes'"),
        (_HEADER + _ROW.replace("UA1545", ""), 2, "entity and value must not be empty"),
        (_HEADER + _ROW.replace("10:15:00Z", "10:15:00"), 2, "is not an instant in UTC"),
        (_HEADER + _ROW.replace("10:15:00Z", "10:15:00+01:00"), 2, "is not an instant in UTC"),
        (_HEADER + _ROW.replace("2013-01-01T10", "yesterday"), 2, "Invalid isoformat string"),
        (_HEADER + _ROW.replace("16:15", "09:15"), 2, "before the use"),
        (_HEADER + _ROW + _ROW.replace("T10:", "T09:"), 3, "events are ordered by time"),
        (_HEADER + _ROW.replace("UA1545", '"UA1545'), 2, "unexpected end of data"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str, line: int, reason: str) -> None:
    """Whatever is wrong with a line, the error has its number and the reason."""
    with pytest.raises(MalformedEventsError) as caught:
        list(read_events(_written(tmp_path, content)))
    assert f", line {line}: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """A file that is not the one of the checksum gives no event at all."""
    path = _written(tmp_path, _HEADER + _ROW)
    path.write_bytes(gzip.compress((_HEADER + _ROW + _ROW).encode()))
    with pytest.raises(MalformedEventsError, match="has SHA-256"):
        next(read_events(path))


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    """What SHA256SUMS says nothing about is not trusted."""
    path = _written(tmp_path, _HEADER + _ROW)
    other = path.rename(path.with_name("other.csv.gz"))
    with pytest.raises(MalformedEventsError, match="nothing about it"):
        next(read_events(other))


def _written(directory: Path, content: str) -> Path:
    path = directory / "events.csv.gz"
    packed = gzip.compress(content.encode())
    path.write_bytes(packed)
    checksum = f"{hashlib.sha256(packed).hexdigest()}  {path.name}\n"
    path.with_name("SHA256SUMS").write_text(checksum, encoding="utf-8")
    return path
