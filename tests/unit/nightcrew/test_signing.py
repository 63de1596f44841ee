"""Signatures: nothing that was signed can be changed, and no secret shows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew import Nightcrew, wire
from nightcrew.errors import InvalidSigningKeyError
from nightcrew.signing import Guard, SignatureError, Signer, SigningKey

OLD, NEW = SigningKey("old", b"o" * 32), SigningKey("new", b"n" * 32)
STREAM = wire.usage_stream(0)

_texts = st.text(max_size=10)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_payloads = st.dictionaries(_texts, _values, max_size=4)
_fields = st.dictionaries(st.binary(max_size=6), st.binary(max_size=12), max_size=5).map(
    lambda fields: {name.hex(): value for name, value in fields.items()}
)


def as_stored(fields: dict[str, bytes], signature: str) -> dict[bytes, bytes]:
    return {**{name.encode(): value for name, value in fields.items()}, b"sig": signature.encode()}


def headers_of(payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    ours: dict[str, Any] = {wire.HEADER_SCHEMA: 1, wire.HEADER_ENQUEUED_AT: 1_772_366_400.123456, **more}
    signature = Signer([NEW]).sign_message(kind="a.b", job_id="j", payload=payload, headers=ours)
    return {**ours, wire.HEADER_SIGNATURE: signature, "retries": 3}


@given(_payloads)
def test_a_message_stays_signed_through_json(payload: dict[str, Any]) -> None:
    """Floats, text of any script and the order of keys survive as many trips as there are retries."""
    headers = headers_of(payload)
    for _ in range(2):
        payload, headers = json.loads(json.dumps([dict(reversed(payload.items())), headers]))
        Guard([OLD, NEW]).check_message(kind="a.b", job_id="j", payload=payload, headers=headers)


def test_keys_that_are_numbers_stay_signed() -> None:
    """They are text after their trip, and sorted as such; so are those of a message with fields of many kinds."""
    for payload in ({"by_hour": {9: 1, 10: 2}}, {"rows": [{9: {10: 1, 9: 2}}], "note": "x"}):
        told, headers = json.loads(json.dumps([payload, headers_of(payload)]))
        Guard([NEW]).check_message(kind="a.b", job_id="j", payload=told, headers=headers)


@given(_payloads, _payloads)
def test_another_payload_is_not_signed(payload: dict[str, Any], other: dict[str, Any]) -> None:
    """Also one that Python takes for equal: `1`, `1.0` and `True` are three values of JSON."""
    headers = headers_of(payload)
    if json.dumps(payload, sort_keys=True) == json.dumps(other, sort_keys=True):
        return
    with pytest.raises(SignatureError, match="wrong"):
        Guard([NEW]).check_message(kind="a.b", job_id="j", payload=other, headers=headers)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "a.c"},
        {"job_id": "k"},
        {"job_id": None},
        {wire.HEADER_SCHEMA: 2},
        {wire.HEADER_ENQUEUED_AT: 1_772_366_400.123457},
        {wire.HEADER_CORRELATION_ID: "d"},
        {wire.HEADER_DEDUP_KEY: "other"},
        {wire.HEADER_INTENT: False},
        {"nightcrew_new": 1},
    ],
    ids=repr,
)
def test_every_part_of_a_message_is_signed(change: dict[str, Any]) -> None:
    """Kind, job id, and each header of ours, also one that is added or taken away."""
    more = {wire.HEADER_CORRELATION_ID: "c", wire.HEADER_DEDUP_KEY: "d", wire.HEADER_INTENT: True}
    headers = headers_of({"x": 1}, **more)
    told: dict[str, Any] = {"kind": "a.b", "job_id": "j"}
    Guard([NEW]).check_message(**told, payload={"x": 1}, headers=headers)
    for name, value in change.items():
        (told if name in told else headers)[name] = value
    with pytest.raises(SignatureError, match="wrong"):
        Guard([NEW]).check_message(**told, payload={"x": 1}, headers=headers)


@given(_fields, _fields)
def test_every_field_of_an_entry_is_signed(fields: dict[str, bytes], others: dict[str, bytes]) -> None:
    """Names and values, also where they only move from one to the next."""
    signer, guard = Signer([NEW]), Guard([NEW])
    intent, entry = signer.sign_intent(fields), signer.sign_entry(STREAM, fields)
    guard.check_intent(as_stored(fields, intent))
    guard.check_entry(STREAM, as_stored(fields, entry))
    if fields != others:
        with pytest.raises(SignatureError, match="wrong"):
            guard.check_intent(as_stored(others, intent))
        with pytest.raises(SignatureError, match="wrong"):
            guard.check_entry(STREAM, as_stored(others, entry))
    for check in (guard.check_intent, lambda told: guard.check_entry(wire.usage_stream(1), told)):
        with pytest.raises(SignatureError, match="wrong"):
            check(as_stored(fields, entry))


@pytest.mark.parametrize("name", ["v", "id", "kind", "payload", "dedup_key", "correlation_id", "enqueued_at"])
def test_each_field_of_an_intent_counts(name: str) -> None:
    """One character of one field is enough."""
    names = ("v", "id", "kind", "payload", "dedup_key", "correlation_id", "enqueued_at")
    fields = {one: one.encode() for one in names}
    signature = Signer([NEW]).sign_intent(fields)
    with pytest.raises(SignatureError, match="wrong"):
        Guard([NEW]).check_intent(as_stored({**fields, name: b"other"}, signature))


def test_two_keys_are_valid_at_once() -> None:
    """While keys change, both are believed; the first one signs; one that is gone is not believed."""
    fields = {"v": b"1"}
    for key in (OLD, NEW):
        Guard([NEW, OLD]).check_intent(as_stored(fields, Signer([key]).sign_intent(fields)))
    assert Signer([NEW, OLD]).sign_intent(fields).startswith("v1:new:")
    with pytest.raises(SignatureError, match="unknown key 'old'"):
        Guard([NEW]).check_intent(as_stored(fields, Signer([OLD]).sign_intent(fields)))


def test_what_is_not_signed() -> None:
    """Refused unless that was asked for; a wrong signature never passes where there are keys."""
    Guard().check_intent({b"v": b"1"})
    Guard([NEW], requires=False).check_intent({b"v": b"1"})
    with pytest.raises(SignatureError, match="missing"):
        Guard([NEW]).check_intent({b"v": b"1"})
    for wrong in (b"", b"v1:new:", b"v1:new:00", b"v2:new:00", b"\xff", "v1:new:é".encode()):
        with pytest.raises(SignatureError):
            Guard([NEW], requires=False).check_intent({b"v": b"1", b"sig": wrong})
    with pytest.raises(SignatureError):
        Guard([NEW]).check_message(kind="k", job_id="j", payload={}, headers={wire.HEADER_SIGNATURE: 5})


@pytest.mark.parametrize("text", ["", "id", "id:", ":c2VjcmV0", "i d:" + "A" * 43, "id:" + "A" * 20, "id:!" + "A" * 43])
def test_what_is_no_key_is_refused_without_a_trace(text: str) -> None:
    """Of the secret nothing is in the error."""
    with pytest.raises(InvalidSigningKeyError) as caught:
        SigningKey.parse(text)
    assert "AAAA" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_secret_shows() -> None:
    """In no text form of anything that holds one."""
    key = SigningKey.generate("2026")
    assert SigningKey.parse(key.reveal()) == key
    assert re.fullmatch(r"2026:[A-Za-z0-9_-]{43}", key.reveal())
    secret = key.reveal().partition(":")[2]
    with Nightcrew("redis://localhost:1", signing_key=key.reveal()) as app:
        shown = repr((key, Signer([key]), Guard([key]), app, app._publisher))
    assert secret not in shown
    assert repr(key.secret)[2:-1] not in shown


def test_keys_that_do_not_go_together() -> None:
    """Two of one id, or a rule that nobody could follow."""
    with pytest.raises(InvalidSigningKeyError, match="same id"):
        Signer([NEW, SigningKey("new", b"x" * 32)])
    with pytest.raises(InvalidSigningKeyError, match="no key"):
        Guard(requires=True)
