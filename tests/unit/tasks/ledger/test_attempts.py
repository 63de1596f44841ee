"""Names of what a run asks for."""

from __future__ import annotations

import uuid

import hypothesis.strategies as st
from hypothesis import given

from nightcrew._uuid7 import uuid7
from tasks.ledger.attempts import child_id


@given(st.text(), st.text())
def test_child_has_one_id(key: str, other: str) -> None:
    """A key always gives the same id, another key another one, and the id sorts by the time of the parent's."""
    parent = str(uuid7())
    child = child_id(parent, "ledger.canary", key)
    assert child == child_id(parent, "ledger.canary", key)
    assert (child == child_id(parent, "ledger.canary", other)) == (key == other)
    assert (uuid.UUID(child).version, uuid.UUID(child).variant) == (7, uuid.RFC_4122)
    assert child[:13] == parent[:13]
