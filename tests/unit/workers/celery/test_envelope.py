"""What a worker takes, and what it does not."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ledger.dead_letters import from_fields, to_fields
from tests.unit.workers.celery.envelopes import (
    BAD_HEADERS,
    BAD_PARTS,
    BAD_PROPERTIES,
    QUEUE,
    encoded,
    envelope,
    item,
)
from workers.envelope import (
    LONGEST_ITEM_BYTES,
    MalformedEnvelopeError,
    letter_of_item,
    read_item,
    read_unacked,
    utc_now,
)

NOW = utc_now()


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


def test_a_message_of_ours_is_read() -> None:
    """What the producer library writes passes."""
    assert read_item(item(), queue=QUEUE, now=NOW)["headers"]["task"] == "ledger.canary"


def test_a_retry_with_a_countdown_is_read() -> None:
    """Times near now are what Celery's own retries bring."""
    soon = (NOW + timedelta(seconds=60)).isoformat()
    assert read_item(item(headers={"eta": soon, "expires": soon, "retries": 3}), queue=QUEUE, now=NOW)


def test_headers_of_other_tools_are_left_alone() -> None:
    """An app may trace its messages."""
    assert read_item(item(headers={"traceparent": "00-abc", "x-request": {"a": 1}}), queue=QUEUE, now=NOW)


@pytest.mark.parametrize(("name", "value"), cases(BAD_HEADERS))
def test_a_spoilt_header_is_refused(name: str, value: Any) -> None:
    """Celery takes headers on trust."""
    with pytest.raises(MalformedEnvelopeError):
        read_item(item(headers={name: value}), queue=QUEUE, now=NOW)


@pytest.mark.parametrize(("name", "value"), cases(BAD_PROPERTIES))
def test_a_spoilt_property_is_refused(name: str, value: Any) -> None:
    """Kombu takes properties on trust."""
    with pytest.raises(MalformedEnvelopeError):
        read_item(item(properties={name: value}), queue=QUEUE, now=NOW)


@pytest.mark.parametrize(("name", "value"), cases(BAD_PARTS))
def test_a_spoilt_part_is_refused(name: str, value: Any) -> None:
    """Neither pickle nor half a message."""
    with pytest.raises(MalformedEnvelopeError):
        read_item(json.dumps({**envelope(), name: value}).encode(), queue=QUEUE, now=NOW)


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_message_brings_no_other_messages(name: str) -> None:
    """What is run after a job is not for a stranger to say."""
    body = encoded([[], {}, {name: [{"task": "x"}]}])
    with pytest.raises(MalformedEnvelopeError, match="callbacks"):
        read_item(item(body=body), queue=QUEUE, now=NOW)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b"9" * 5_000,
        b'{"__type__": "datetime", "__value__": 5}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "uuid", "__value__": []}',
        b'"' + b"x" * LONGEST_ITEM_BYTES + b'"',
    ],
)
def test_what_no_parser_takes_is_refused(raw: bytes) -> None:
    """Whatever a parser raises, it is the same error here."""
    with pytest.raises(MalformedEnvelopeError):
        read_item(raw, queue=QUEUE, now=NOW)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    """No message is made of noise, and no other error either."""
    with pytest.raises(MalformedEnvelopeError):
        read_item(raw, queue=QUEUE, now=NOW)


def test_an_unacked_entry_is_read() -> None:
    """What kombu keeps of a message leads back to its queue."""
    whole = envelope()
    found, queue = read_unacked(json.dumps([whole, "nightcrew", QUEUE]).encode(), now=NOW)
    assert (found, queue) == (whole, QUEUE)


@pytest.mark.parametrize("raw", [b"x", b"[]", b"{}", b'[{}, "", "nightcrew.ledger"]', b"[1, 2, 3]", b"\xff"])
def test_a_spoilt_unacked_entry_is_refused(raw: bytes) -> None:
    """A sweep must not stumble over what it finds."""
    with pytest.raises(MalformedEnvelopeError):
        read_unacked(raw, now=NOW)


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.builds(item, headers=st.dictionaries(st.text(), st.text())))
)
def test_a_letter_keeps_every_byte(raw: bytes) -> None:
    """What came can be had back from the letter, after its way through the stream too."""
    letter = letter_of_item(raw, source=QUEUE, reason="no message", received_at=NOW)
    fields = {name.encode(): value.encode() for name, value in to_fields(letter).items()}
    kept = from_fields(fields, taken_in_at=NOW)
    assert (kept.source, kept.reason) == (QUEUE, "no message")
    content = json.loads(kept.body)
    if set(content) == {"base64"}:
        assert base64.b64decode(content["base64"]) == raw
    elif set(content) == {"text"}:
        assert content["text"].encode() == raw
    else:
        assert json.loads(raw) == content


def test_a_letter_names_kind_and_job() -> None:
    """Whoever looks for a job finds its letter."""
    raw = item(task="unheard.of", headers={"id": "j-1", "eta": 5})
    letter = letter_of_item(raw, source=QUEUE, reason="x", received_at=NOW)
    assert (letter.kind, letter.job_id) == ("unheard.of", "j-1")
