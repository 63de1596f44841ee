"""One entry of the log, read with suspicion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.wire import MAX_AMOUNT, MAX_KEY_BYTES
from tasks.usage.entries import Group, MalformedEntryError, Reset, decode_entry, id_order

AT_MS = 1_700_000_000_000
HOUR = AT_MS // 3_600_000
ENTRY_ID = f"{AT_MS}-0"


def fields(body: Any, **other: bytes) -> dict[bytes, bytes]:
    """Make the fields of an entry that is right but for what the test changes."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"v": b"1", "op": b"add", "p": b"producer", "s": b"1", "d": text} | other
    return {name.encode(): value for name, value in named.items()}


def add(counts: Any, *, hour: Any = HOUR, context: Any = "", outcome: Any = "n") -> dict[bytes, bytes]:
    return fields([[hour, context, outcome, counts]])


def test_groups_are_read() -> None:
    """An entry gives its producer, sequence and groups."""
    entry = decode_entry(ENTRY_ID, add({"mail.greeting": 3, "größe": 1}, context="fr", outcome="a"))
    assert (entry.producer, entry.seq, entry.logged_ms) == ("producer", 1, AT_MS)
    assert entry.operation == [Group(HOUR, "fr", "a", {"mail.greeting": 3, "größe": 1})]


def test_reset_is_read() -> None:
    """A reset names a key and a context, or leaves either open."""
    entry = decode_entry(ENTRY_ID, fields({"key": "k", "context": None}, op=b"reset"))
    assert entry.operation == Reset("k", None)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(fields([], v=b"2"), "version", id="newer version"),
        pytest.param({}, "version", id="no fields"),
        pytest.param(fields([], p=b""), "producer", id="no producer"),
        pytest.param(fields([], p=b"\xff"), "UTF-8", id="producer not UTF-8"),
        pytest.param(fields([], p=b"x" * 65), "producer", id="producer too long"),
        pytest.param(fields([], s=b"0"), "sequence", id="sequence zero"),
        pytest.param(fields([], s=b"-1"), "sequence", id="sequence negative"),
        pytest.param(fields([], s="²".encode()), "sequence", id="sequence no ASCII digit"),
        pytest.param(fields([], s=b"9" * 19), "sequence", id="sequence too large"),
        pytest.param(fields([], op=b"drop"), "operation", id="unknown operation"),
        pytest.param(fields([]), "at least one group", id="no group"),
        pytest.param(fields({}), "at least one group", id="no list"),
        pytest.param(fields(b"{"), "JSON", id="no JSON"),
        pytest.param(fields(b"[" * 100_000), "JSON", id="too deep"),
        pytest.param(fields(b'[[1,"","n",{"k":' + b"9" * 5_000 + b"}]]"), "JSON", id="number too long"),
        pytest.param(fields([[HOUR, "", "n"]]), "group", id="short group"),
        pytest.param(add({}), "at least one key", id="no key"),
        pytest.param(add([]), "at least one key", id="counts no object"),
        pytest.param(add({"": 1}), "empty", id="empty key"),
        pytest.param(add({"a\0": 1}), "NUL", id="NUL in key"),
        pytest.param(add({"\ud800": 1}), "UTF-8", id="lone surrogate"),
        pytest.param(add({"é" * (MAX_KEY_BYTES // 2) + "x": 1}), "longer", id="key too long"),
        pytest.param(add({"k": 0}), "amount", id="zero"),
        pytest.param(add({"k": -1}), "amount", id="negative"),
        pytest.param(add({"k": MAX_AMOUNT + 1}), "amount", id="too large"),
        pytest.param(add({"k": 2**63}), "amount", id="beyond 64 bits"),
        pytest.param(add({"k": 1.0}), "whole number", id="float"),
        pytest.param(add({"k": True}), "whole number", id="boolean"),
        pytest.param(add({"k": "1"}), "whole number", id="text"),
        pytest.param(add({"k": None}), "whole number", id="null"),
        pytest.param(fields(b'[[472222,"","n",{"k":NaN}]]'), "whole number", id="NaN"),
        pytest.param(add({"k": 1}, context=None), "context", id="no context"),
        pytest.param(add({"k": 1}, context="c" * (MAX_KEY_BYTES + 1)), "context", id="context too long"),
        pytest.param(add({"k": 1}, outcome="x"), "outcome", id="unknown outcome"),
        pytest.param(add({"k": 1}, outcome=["a"]), "outcome", id="outcome no text"),
        pytest.param(add({"k": 1}, hour=HOUR + 25), "hour", id="far future"),
        pytest.param(add({"k": 1}, hour=0), "hour", id="far past"),
        pytest.param(add({"k": 1}, hour=float(HOUR)), "hour", id="hour float"),
        pytest.param(add({"k": 1}, hour=True), "hour", id="hour boolean"),
        pytest.param(fields({"key": ""}, op=b"reset"), "reset", id="reset without context"),
        pytest.param(fields({"key": "", "context": None}, op=b"reset"), "empty", id="reset of empty key"),
        pytest.param(fields({"key": 1, "context": None}, op=b"reset"), "key", id="reset of a number"),
        pytest.param(fields([], op=b"reset"), "reset", id="reset no object"),
    ],
)
def test_malformed_entry_is_refused(broken: dict[bytes, bytes], reason: str) -> None:
    """What version 1 does not allow is refused with a reason."""
    with pytest.raises(MalformedEntryError, match=reason):
        decode_entry(ENTRY_ID, broken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from([b"v", b"op", b"p", b"s", b"d", b"x"]), st.binary(max_size=60))
    | JSON.map(lambda body: fields(json.dumps(body).encode()))
    | st.lists(JSON, min_size=4, max_size=4).map(lambda group: fields(json.dumps([group]).encode()))
    | st.dictionaries(st.text(), JSON).map(add)
)
def test_any_entry_is_read_or_refused(raw: dict[bytes, bytes]) -> None:
    """Whatever stands in an entry, decoding gives an entry or the one error."""
    try:
        entry = decode_entry(ENTRY_ID, raw)
    except MalformedEntryError:
        return
    assert isinstance(entry.operation, Reset) or all(group.counts for group in entry.operation)


def test_ids_are_ordered_as_numbers() -> None:
    """Ids sort by their numbers, not as text."""
    assert sorted(["10-0", "9-10", "9-9"], key=id_order) == ["9-9", "9-10", "10-0"]
