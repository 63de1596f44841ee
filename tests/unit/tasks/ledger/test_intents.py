"""What an intent must be to become a run."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nightcrew.errors import InvalidMessageError
from nightcrew.messages import kinds
from tasks.ledger.intents import parse_intent

JOB_ID = "01931f2e-5f6a-7abc-8def-0123456789ab"
GOOD = {
    b"v": b"1",
    b"id": JOB_ID.encode(),
    b"kind": b"ledger.canary",
    b"payload": b'{"note": "hello", "later": 1}',
    b"dedup_key": b"",
    b"correlation_id": b"request-7",
    b"enqueued_at": b"1767225600.25",
}


def test_intent_becomes_a_run() -> None:
    """All fields arrive, and a field of a newer release is kept for whoever knows it."""
    run = parse_intent(GOOD)
    assert (run.id, run.kind, run.queue) == (JOB_ID, "ledger.canary", "nightcrew.ledger")
    assert run.payload == {"note": "hello", "later": 1}
    assert (run.dedup_key, run.correlation_id) == (None, "request-7")
    assert run.enqueued_at == datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (b"v", b"7", "version"),
        (b"id", b"no-uuid", "job id"),
        (b"id", JOB_ID.upper().encode(), "job id"),
        (b"kind", b"no.such", "unknown kind"),
        (b"payload", b"{", "no JSON"),
        (b"payload", b"[]", "object"),
        (b"payload", b'{"note": 5}', "note"),
        (b"payload", b'{"note": "", "x": NaN}', "no JSON"),
        (b"payload", b"[" * 100_000, "no JSON"),
        (b"dedup_key", b"a\0b", "dedup_key"),
        (b"correlation_id", b"x" * 501, "correlation_id"),
        (b"enqueued_at", b"nan", "enqueued_at"),
        (b"enqueued_at", b"1e300", "enqueued_at"),
        (b"payload", b"\xff", "UTF-8"),
    ],
)
def test_bad_field_is_named(field: bytes, value: bytes, complaint: str) -> None:
    """An intent that cannot become a run is refused with a text that names the culprit."""
    with pytest.raises(InvalidMessageError, match=complaint):
        parse_intent({**GOOD, field: value})


@given(st.dictionaries(st.sampled_from(sorted(GOOD)) | st.binary(max_size=8), st.binary(max_size=40)))
def test_any_entry_is_read_or_refused(fields: dict[bytes, bytes]) -> None:
    """Whatever stands in the stream gives a run or the one error that leads to the dead letters."""
    with suppress(InvalidMessageError):
        assert parse_intent({**GOOD, **fields}).kind in kinds()
