"""What the log may forget."""

from __future__ import annotations

import pytest

from tasks.usage.compaction import compaction_end
from tasks.usage.trimming import LogSize, decide_trim


def size(*, first: str | None = "1-0", memory: int = 10, applied: str = "9-0", proven: str | None = None) -> LogSize:
    return LogSize(first_id=first, memory_bytes=memory, applied_id=applied, proven_id=proven)


@pytest.mark.parametrize(
    ("log", "upto", "incident"),
    [
        pytest.param(size(first=None), None, None, id="empty"),
        pytest.param(size(), None, None, id="nothing proven"),
        pytest.param(size(proven="5-0"), "5-0", None, id="proven"),
        pytest.param(size(proven="12-0"), "9-0", None, id="proven beyond what is applied"),
        pytest.param(size(proven="10-0", applied="9-0"), "9-0", None, id="ids are numbers"),
        pytest.param(size(first="6-0", proven="5-0"), None, None, id="proven and forgotten"),
        pytest.param(size(memory=101), "9-0", "trimmed_unproven", id="over the cap, unproven"),
        pytest.param(size(memory=101, proven="5-0"), "9-0", "trimmed_unproven", id="over the cap, half proven"),
        pytest.param(size(memory=101, proven="9-0"), "9-0", None, id="over the cap, proven"),
        pytest.param(size(memory=101, first="10-0"), None, "log_over_cap", id="over the cap, unapplied"),
        pytest.param(size(memory=100), None, None, id="at the cap"),
    ],
)
def test_only_proven_entries_go_below_the_cap(log: LogSize, upto: str | None, incident: str | None) -> None:
    """Unproven entries go at the cap alone, unapplied ones never, and each decision has a reason."""
    decision = decide_trim(log, cap_bytes=100)
    assert (decision.upto, decision.incident) == (upto, incident)
    assert decision.reason


def test_segment_ends_at_the_nearest_border() -> None:
    """A segment stops at what is applied, at a restore point, and before the last hours."""
    assert compaction_end(applied_id="9-0", boundaries=[], after="0-0", not_after_ms=20) == "9-0"
    assert compaction_end(applied_id="9-0", boundaries=["4-0", "7-0"], after="4-0", not_after_ms=20) == "7-0"
    assert compaction_end(applied_id="9-0", boundaries=["4-0"], after="0-0", not_after_ms=3) == "3-0"
