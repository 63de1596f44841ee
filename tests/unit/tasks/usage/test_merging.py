"""Many entries of the log as one batch."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasks.usage.compaction import compact, decode_segment, join, may_join
from tasks.usage.entries import Reset
from tasks.usage.merging import Batch, Tally, TimedReset, merge_entries
from tests.unit.tasks.usage.test_entries import AT_MS, HOUR, add, fields

Raw = tuple[str, dict[bytes, bytes]]


def raw(seq: int, counts: dict[str, int], *, producer: str = "p", hour: int = HOUR, outcome: str = "n") -> Raw:
    entry = add(counts, hour=hour, outcome=outcome) | {b"s": str(seq).encode(), b"p": producer.encode()}
    return f"{AT_MS}-{seq}", entry


def reset(seq: int, key: str | None) -> Raw:
    return f"{AT_MS}-{seq}", fields({"key": key, "context": None}, op=b"reset", s=str(seq).encode(), p=b"p")


def play(batch: Batch, counts: Counter[tuple[str, str]], hours: Counter[tuple[int, str, str]]) -> None:
    """Apply a batch the slow and obvious way."""
    for step in batch.steps:
        if isinstance(step, TimedReset):
            cleared = [place for place in counts if step.reset.key in (None, place[0])]
            counts.update({place: -counts[place] for place in cleared})
            continue
        for (_, outcome), sums in step.totals().items():
            counts.update({(key, outcome): amount for key, amount in sums.items()})
        for (hour, _, outcome), sums in step.hours.items():
            hours.update({(hour, key, outcome): amount for key, amount in sums.items()})


def test_equal_keys_are_added_up() -> None:
    """Entries of one hour, context and outcome become one group."""
    batch = merge_entries([raw(1, {"a": 1, "b": 2}), raw(2, {"a": 5})], {}, after="0-0")
    [tally] = batch.steps
    assert isinstance(tally, Tally)
    assert tally.hours == {(HOUR, "", "n"): {"a": 6, "b": 2}}
    assert (batch.last_id, batch.increments, batch.rows) == (f"{AT_MS}-2", 8, 2)


def test_hours_are_added_up_without_touching_them() -> None:
    """Totals go over all hours, and the hours stay as they were."""
    batch = merge_entries([raw(1, {"a": 1}), raw(2, {"a": 5}, hour=HOUR - 1), raw(3, {"a": 2})], {}, after="0-0")
    [tally] = batch.steps
    assert isinstance(tally, Tally)
    assert tally.totals() == {("", "n"): {"a": 8}}
    assert tally.hours == {(HOUR, "", "n"): {"a": 3}, (HOUR - 1, "", "n"): {"a": 5}}


def test_retried_flush_counts_once() -> None:
    """An entry at or below its producer's sequence is passed over, within the batch and before it."""
    batch = merge_entries([raw(3, {"a": 1}), raw(4, {"a": 1}), raw(4, {"a": 1})], {"p": 3}, after="0-0")
    assert batch.increments == 1
    assert batch.duplicates == [f"{AT_MS}-3", f"{AT_MS}-4"]
    assert batch.sequences == {"p": 4}


def test_malformed_entry_leaves_the_others_alone() -> None:
    """One unreadable entry is set aside, and the position goes past it."""
    batch = merge_entries([raw(1, {"a": 1}), raw(2, {"a": 0}), raw(3, {"a": 1})], {}, after="0-0")
    assert batch.increments == 2
    assert [entry.id for entry in batch.rejected] == [f"{AT_MS}-2"]
    assert batch.last_id == f"{AT_MS}-3"


def test_reset_keeps_its_place() -> None:
    """Increments before and after a reset stay apart."""
    batch = merge_entries([raw(1, {"a": 1}), reset(2, "a"), raw(3, {"a": 4})], {}, after="0-0")
    kinds = [type(step) for step in batch.steps]
    assert kinds == [Tally, TimedReset, Tally]
    assert batch.steps[1] == TimedReset(Reset("a", None), AT_MS)


@st.composite
def logs(draw: st.DrawFn) -> list[Raw]:
    """Make a log of increments and resets with growing sequence numbers."""
    entries = []
    for seq in range(1, draw(st.integers(2, 12)) + 1):
        if draw(st.integers(0, 4)) == 0:
            entries.append(reset(seq, draw(st.sampled_from([None, "a", "b"]))))
            continue
        counts = draw(st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1))
        hour = HOUR - draw(st.integers(0, 2))
        entries.append(raw(seq, counts, hour=hour, outcome=draw(st.sampled_from("arn"))))
    return entries


@given(logs(), st.data())
def test_segments_replay_like_their_entries(entries: list[Raw], draws: st.DataObject) -> None:
    """However a log is cut into segments and joined again, counts and hours come out the same."""
    expected: tuple[Counter[tuple[str, str]], Counter[tuple[int, str, str]]] = (Counter(), Counter())
    play(merge_entries(entries, {}, after="0-0"), *expected)
    cut = draws.draw(st.integers(1, len(entries) - 1))
    older, newer = (compact(part) for part in (entries[:cut], entries[cut:]))
    joined = draws.draw(st.booleans()) and may_join(older, newer, [])
    segments = [join(older, newer)] if joined else [older, newer]
    found: tuple[Counter[tuple[str, str]], Counter[tuple[int, str, str]]] = (Counter(), Counter())
    for segment in segments:
        wire = {name.encode(): value.encode() for name, value in segment.to_fields().items()}
        play(decode_segment(segment.last_id, wire).batch, *found)
    assert found == expected
    assert segments[0].first_id == entries[0][0]
    assert segments[-1].last_id == entries[-1][0]


def test_segments_do_not_join_across_a_restore_point() -> None:
    """A position at which a restore point stands stays a border."""
    older, newer = compact([raw(1, {"a": 1}), raw(2, {"a": 1})]), compact([raw(3, {"a": 1}), raw(4, {"a": 1})])
    assert may_join(older, newer, [])
    assert not may_join(older, newer, [f"{AT_MS}-2"])
