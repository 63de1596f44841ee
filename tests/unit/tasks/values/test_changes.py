"""What becomes of a value: versions without a gap, whatever is wanted in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.values.changes import Change, Refusal, decide
from tasks.values.listing import end_of_prefix
from tasks.values.values import DefaultValue, InvalidValueError, checked_tags, checked_value

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WISHES = st.builds(
    Change,
    action=st.sampled_from(["create", "update", "set", "delete"]),
    key=st.just("k"),
    value=st.sampled_from([None, True, 1, 1.0, "1", [1], [True], {"a": 1}, {"a": 1.0}]),
    tags=st.none() | st.sampled_from([(), ("a",), ("b", "a")]),
    expected_version=st.none() | st.integers(1, 6),
)


@given(wishes=st.lists(WISHES, max_size=20))
def test_versions_have_no_gap(wishes: list[Change]) -> None:
    """Each change is the next version, a refusal or no change none, and a seen version is the one that is changed."""
    current: DefaultValue | None = None
    versions = [0]
    for number, wish in enumerate(wishes):
        now = NOW + timedelta(seconds=number)
        outcome = decide(current, wish, last_version=versions[-1], now=now)
        if isinstance(outcome, Refusal):
            assert len(outcome.detail) > 5
            continue
        if wish.expected_version is not None:
            assert current is not None
            assert (current.version, current.is_deleted) == (wish.expected_version, False)
        if outcome is not current:
            versions.append(outcome.version)
            assert outcome.updated_at == now
            assert outcome.is_deleted == (wish.action == "delete")
        if not outcome.is_deleted:
            assert repr(outcome.value) == repr(wish.value)
        current = outcome
    assert versions == list(range(len(versions)))


@pytest.mark.parametrize(
    "value",
    [{1: 2}, {"a": object()}, float("nan"), 2**63, "\0", "\ud800", {"\ud800": 1}, b"x", NOW, {1, 2}],
    ids=range(10),
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    """At the border, and in words."""
    with pytest.raises(InvalidValueError):
        checked_value(value)


def test_sizes_are_bounded() -> None:
    """A value of 64 KiB is kept, one byte more is not; so it is with depth and tags."""
    checked_value("x" * (64 * 1024 - 2))
    with pytest.raises(InvalidValueError, match="65537 bytes"):
        checked_value("x" * (64 * 1024 - 1))
    deep: Any = 1
    for _ in range(32):
        deep = [deep]
    checked_value(deep)
    with pytest.raises(InvalidValueError, match="deeper"):
        checked_value([deep])
    assert checked_tags(["b", " a ", "b"]) == ("a", "b")
    for tags in (["x" * 65], [""], ["a,b"], ["a\nb"], "ab", [1], [str(n) for n in range(33)]):
        with pytest.raises(InvalidValueError):
            checked_tags(tags)


@given(prefix=st.text(min_size=1, max_size=3), text=st.text(max_size=4))
def test_the_end_of_a_prefix_is_right_behind_it(prefix: str, text: str) -> None:
    """Everything that begins with it lies before its end, and nothing else from it on does."""
    end = end_of_prefix(prefix)
    lies_within = prefix <= text and (end is None or text < end)
    assert lies_within == text.startswith(prefix)
