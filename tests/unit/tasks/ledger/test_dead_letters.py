"""Dead letters keep everything, and tell how to try again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from tasks.ledger.dead_letters import (
    KeptLetter,
    Reappend,
    Republish,
    from_fields,
    letter_of_entry,
    letter_of_message,
    plan_retry,
    to_fields,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB_ID = "01931f2e-5f6a-7abc-8def-0123456789ab"


def kept(source: str, body: Any) -> KeptLetter:
    return KeptLetter(
        id=1,
        source=source,
        source_id=f"{source}/1-0",
        kind=None,
        job_id=None,
        reason="",
        body=body if isinstance(body, str) else json.dumps(body),
        received_at=NOW,
        retried_at=None,
    )


def encoded(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


def test_letter_survives_the_stream() -> None:
    """What is written to the stream is read back the same."""
    headers = {"task": "ledger.canary", "id": JOB_ID, "odd": "\ud800\0"}
    letter = letter_of_message(
        source="nightcrew.ledger", headers=headers, payload={"note": 5}, reason="no\0good", received_at=NOW
    )
    read = from_fields(encoded(to_fields(letter)), taken_in_at=NOW)
    assert (read.kind, read.job_id, read.body, read.received_at) == ("ledger.canary", JOB_ID, letter.body, NOW)
    assert read.reason == "no\\x00good"


@given(st.dictionaries(st.binary(max_size=8), st.binary(max_size=20)))
def test_any_entry_is_kept_whole(fields: dict[bytes, bytes]) -> None:
    """An entry that is no letter becomes one, with every byte of its values."""
    letter = from_fields(fields, taken_in_at=NOW)
    assert "not a dead letter" in letter.reason
    values = [
        base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()
        for value in json.loads(letter.body).values()
    ]
    assert set(values) <= set(fields.values())
    assert len(values) == len({name.decode("utf-8", "backslashreplace") for name in fields})


def test_message_goes_back_to_its_queue() -> None:
    """A message is republished under its own id and payload."""
    headers = {"task": "ledger.canary", "id": JOB_ID, wire.HEADER_ENQUEUED_AT: 1767225600.0}
    letter = letter_of_message(
        source="nightcrew.ledger", headers=headers, payload={"note": "x"}, reason="", received_at=NOW
    )
    plan = plan_retry(kept(letter.source, letter.body))
    assert isinstance(plan, Republish)
    assert (plan.run.id, plan.run.payload) == (JOB_ID, {"note": "x"})
    assert plan.run.enqueued_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_raw_body_is_understood() -> None:
    """The body of a message may be text or base64, as it stood on the broker."""
    raw = json.dumps([[], {"note": "x"}, {}])
    headers = {"task": "ledger.canary", "id": JOB_ID}
    coded = base64.b64encode(raw.encode()).decode()
    for body, properties in ((raw, {}), (coded, {"body_encoding": "base64"})):
        plan = plan_retry(kept("nightcrew.ledger", {"headers": headers, "properties": properties, "body": body}))
        assert isinstance(plan, Republish)
        assert plan.run.payload == {"note": "x"}


def test_usage_entry_gets_a_producer_of_its_own() -> None:
    """A counted-again entry carries a producer that is always the same for the letter, so it counts once."""
    fields = {b"op": b"add", b"p": b"a" * 32, b"s": b"7", b"d": b"\xff"}
    letter = letter_of_entry(source=wire.usage_stream(0), fields=fields, reason="", received_at=NOW)
    first, second = plan_retry(kept(letter.source, letter.body)), plan_retry(kept(letter.source, letter.body))
    assert isinstance(first, Reappend)
    assert first == second
    assert first.stream == wire.usage_stream(0)
    assert first.fields[b"d"] == b"\xff"
    assert first.fields[b"s"] == b"1"
    assert first.fields[b"p"] != fields[b"p"]


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        {"base64": "AAAA"},
        {"body": [[], {}, {}]},
        {"headers": {"task": "no.such", "id": JOB_ID}, "body": [[], {}, {}]},
        {"headers": {"task": "ledger.canary", "id": "x"}, "body": [[], {}, {}]},
        {"headers": {"task": "ledger.canary", "id": JOB_ID}, "body": 5},
        {"headers": {"task": "ledger.canary", "id": JOB_ID}, "body": "!", "properties": {"body_encoding": "base64"}},
        {"headers": {"task": "ledger.canary", "id": JOB_ID}, "body": [[], 5, {}]},
    ],
)
def test_hopeless_letter_is_refused(body: Any) -> None:
    """A letter that this release cannot read either is refused with a reason."""
    with pytest.raises(InvalidMessageError):
        plan_retry(kept("nightcrew.ledger", body))
