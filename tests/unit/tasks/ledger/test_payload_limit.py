"""A payload may have as many bytes as the producer lets it have, and not one more."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.messages import RunCanary
from tasks.ledger.intents import parse_intent
from tasks.usage.entries import MalformedEntryError, decode_entry
from tests.unit.workers.celery.envelopes import item
from workers.envelope import LONGEST_ITEM_BYTES, read_item

_ID = "01931f2e-5f6a-7abc-8def-0123456789ab"
_FRAME_BYTES = len('{"more":""}')


def intent(payload: dict[str, Any]) -> dict[bytes, bytes]:
    text = json.dumps(payload, ensure_ascii=False).encode()
    return {b"v": b"1", b"id": _ID.encode(), b"kind": b"ledger.canary", b"payload": text, b"enqueued_at": b"1.5"}


@pytest.mark.parametrize("sign", ["x", "é", "€", "\U0001f600"])
def test_the_edge_of_a_payload(sign: str) -> None:
    """Counted in UTF-8, whatever the script; an intent written by hand is measured as one of the library is."""
    room = wire.MAX_PAYLOAD_BYTES - _FRAME_BYTES
    text = sign * (room // len(sign.encode()))
    text += "x" * (room - len(text.encode()))
    assert parse_intent(intent({"more": text})).payload == {"more": text}
    with pytest.raises(InvalidMessageError, match=f"{wire.MAX_PAYLOAD_BYTES + 1} bytes"):
        parse_intent(intent({"more": text + "x"}))


@pytest.mark.parametrize("sign", ["é", "\U0001f600", "\x01"])
def test_the_largest_payload_fits_into_a_message(sign: str) -> None:
    """Also where JSON writes most of it as six characters to a sign."""
    each = min(len(sign.encode()), 2) if sign == "é" else len(json.dumps(sign, ensure_ascii=False).encode()) - 2
    raw = item(payload={"more": sign * ((wire.MAX_PAYLOAD_BYTES - _FRAME_BYTES) // each)})
    assert len(raw) < LONGEST_ITEM_BYTES
    read_item(raw, queue=RunCanary.queue, now=datetime.now(UTC))


def test_the_edge_of_an_entry() -> None:
    """An entry of the usage log is measured before it is read."""
    body = b'[[490000,"","n",{"key":1}]]'
    fields = {b"v": b"1", b"op": b"add", b"p": b"p", b"s": b"1"}
    padded = body + b" " * (wire.MAX_ENTRY_BYTES - len(body))
    entry_id = f"{490_000 * 3_600_000}-0"
    assert decode_entry(entry_id, {**fields, b"d": padded}).seq == 1
    with pytest.raises(MalformedEntryError, match=f"{wire.MAX_ENTRY_BYTES + 1} bytes"):
        decode_entry(entry_id, {**fields, b"d": padded + b" "})
