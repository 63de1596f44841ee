"""Dead letters: what no job could read, kept whole, and how it can be tried again.

One entry of the stream `nightcrew:dead-letters`, all fields text: `v` = 1, `source` (queue or stream), `kind`, `job_id`
(both may be empty), `reason`, `body` (JSON text), `received_at` (Unix time in seconds). The body is, by its source,
- of a queue: `{"headers": …, "properties": …, "body": …}`, the Celery message, its body as `[args, kwargs, embed]`
  or as the text of that;
- of a stream: the fields of the entry;
- `{"base64": …}` in the place of anything that was not even text.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.signing import SIGNATURE_FIELD
from tasks.ledger.intents import parse_intent, parse_object
from tasks.ledger.runs import MAX_ERROR_CHARACTERS, MAX_NAME_CHARACTERS, WantedRun, as_json, clean, instant, wanted_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from nightcrew.signing import Guard

_USAGE_STREAMS: Final = wire.usage_stream(0).removesuffix("0")
_BODY_LIMIT_CHARACTERS: Final = 6 * wire.MAX_PAYLOAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message or log entry that could not be read."""

    source: str
    kind: str | None
    job_id: str | None
    reason: str
    body: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLetter:
    """A dead letter as it stands in the table."""

    id: int
    source: str
    source_id: str
    kind: str | None
    job_id: str | None
    reason: str
    body: str
    received_at: datetime
    retried_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601."""
        return as_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Republish:
    """The letter was a message: put it on its queue again."""

    run: WantedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Reappend:
    """The letter was an entry of a log: append it again."""

    stream: str
    fields: dict[bytes, bytes]


def letter_of_message(
    *, source: str, headers: Mapping[str, Any], payload: object, reason: str, received_at: datetime
) -> DeadLetter:
    """Make the letter of a Celery message that was decoded but cannot be a job."""
    try:
        body = json.dumps({"headers": dict(headers), "properties": {}, "body": [[], payload, {}]}, default=repr)
    except (RecursionError, ValueError) as error:
        body = json.dumps({"unwritable": f"{type(error).__name__}: {error}"})
    return DeadLetter(
        source=source,
        kind=_text_or_none(headers.get("task")),
        job_id=_text_or_none(headers.get("id")),
        reason=reason,
        body=body,
        received_at=received_at,
    )


def letter_of_entry(*, source: str, fields: Mapping[bytes, bytes], reason: str, received_at: datetime) -> DeadLetter:
    """Make the letter of a stream entry."""
    texts = {_keyable(name): _readable(value) for name, value in fields.items()}
    return DeadLetter(
        source=source,
        kind=_text_or_none(texts.get("kind")),
        job_id=_text_or_none(texts.get("id")),
        reason=reason,
        body=json.dumps(texts),
        received_at=received_at,
    )


def to_fields(letter: DeadLetter) -> dict[str, str]:
    """Give the fields of the stream entry."""
    return {
        "v": "1",
        "source": clean(letter.source, limit=MAX_NAME_CHARACTERS),
        "kind": clean(letter.kind or "", limit=MAX_NAME_CHARACTERS),
        "job_id": clean(letter.job_id or "", limit=MAX_NAME_CHARACTERS),
        "reason": clean(letter.reason, limit=MAX_ERROR_CHARACTERS),
        "body": clean(letter.body, limit=_BODY_LIMIT_CHARACTERS),
        "received_at": repr(letter.received_at.timestamp()),
    }


def from_fields(fields: Mapping[bytes, bytes], *, taken_in_at: datetime) -> DeadLetter:
    """Read a stream entry; one that is no letter itself is kept whole under a reason that says so."""
    texts = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}
    try:
        received_at = instant(texts.get("received_at"), name="received_at")
        source, reason, body = texts["source"], texts["reason"], texts["body"]
    except (InvalidMessageError, KeyError) as error:
        why = f"not a dead letter itself: {error}"
        return letter_of_entry(source=wire.DEAD_LETTERS, fields=fields, reason=why, received_at=taken_in_at)
    return DeadLetter(
        source=source,
        kind=texts.get("kind") or None,
        job_id=texts.get("job_id") or None,
        reason=reason,
        body=body,
        received_at=received_at,
    )


def plan_retry(letter: KeptLetter) -> Republish | Reappend:
    """Decide how a letter can be tried again.

    Raises:
        InvalidMessageError: this release cannot read it either; the text says why.
    """
    content = parse_object(letter.body)
    if "base64" in content and len(content) == 1:
        msg = "the letter is not even text: nothing can be done with it"
        raise InvalidMessageError(msg)
    if letter.source == wire.INTENTS:
        parse_intent(fields := _bytes(content))  # else it would come back at once as another letter
        return Reappend(stream=letter.source, fields=fields)
    if _is_counted(letter.source):
        # Under its old producer and number the entry would be taken for one that is counted already. The id of
        # the letter as producer counts it exactly once, however often it is retried.
        producer = uuid.uuid5(uuid.NAMESPACE_URL, letter.source_id).hex
        return Reappend(stream=letter.source, fields=_bytes({**content, "p": producer, "s": "1"}))
    return Republish(run=_run_of_message(content, letter))


def check_origin(letter: KeptLetter, guard: Guard) -> None:
    """Check whether what the letter holds was signed as it stands.

    Raises:
        SignatureError: nobody vouches for it.
        InvalidMessageError: it cannot be read at all.
    """
    content = parse_object(letter.body)
    if letter.source == wire.INTENTS:
        guard.check_intent(_bytes(content))
    elif _is_counted(letter.source):
        guard.check_entry(letter.source, _bytes(content))
    else:
        headers = content.get("headers")
        known = headers if isinstance(headers, dict) else {}
        payload = _keyword_arguments(content)
        guard.check_message(kind=str(known.get("task")), job_id=known.get("id"), payload=payload, headers=known)


def signed_anew(plan: Reappend, guard: Guard) -> dict[bytes, bytes]:
    """Give the fields of an entry with a signature of the crew in the place of the one that came with them."""
    bare = {name: value for name, value in plan.fields.items() if name != SIGNATURE_FIELD.encode()}
    if guard.signer is None:
        return plan.fields
    fields: dict[str, str | bytes] = {name.decode("utf-8", "surrogateescape"): value for name, value in bare.items()}
    signed = (
        guard.signer.sign_intent(fields)
        if plan.stream == wire.INTENTS
        else guard.signer.sign_entry(plan.stream, fields)
    )
    return {**bare, SIGNATURE_FIELD.encode(): signed.encode()}


def _is_counted(source: str) -> bool:
    """Tell whether it is a log whose entries are told apart by producer and sequence number."""
    return source.startswith(_USAGE_STREAMS) or source == wire.ACCESS_LOG


def _run_of_message(content: Mapping[str, Any], letter: KeptLetter) -> WantedRun:
    headers = content.get("headers")
    if not isinstance(headers, dict):
        msg = "the letter has no headers: it is no message of a queue"
        raise InvalidMessageError(msg)
    at = headers.get(wire.HEADER_ENQUEUED_AT)
    return wanted_run(
        job_id=headers.get("id") or letter.job_id,
        kind=str(headers.get("task") or letter.kind or ""),
        payload=_keyword_arguments(content),
        dedup_key=None,
        correlation_id=headers.get(wire.HEADER_CORRELATION_ID),
        enqueued_at=letter.received_at if at is None else instant(at, name=wire.HEADER_ENQUEUED_AT),
    )


def _keyword_arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    body = content.get("body")
    try:
        if isinstance(body, str):
            is_base64 = (content.get("properties") or {}).get("body_encoding") == "base64"
            body = json.loads(base64.b64decode(body) if is_base64 else body)
        _args, payload, *_embed = body  # type: ignore[misc]
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        msg = f"body of the message is not [args, kwargs, embed]: {error}"
        raise InvalidMessageError(msg) from error
    if not isinstance(payload, dict):
        msg = f"payload must be a JSON object, not {type(payload).__name__}"
        raise InvalidMessageError(msg)
    return payload


def _bytes(content: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {name.encode("utf-8", "surrogatepass"): _raw(value) for name, value in content.items()}


def _raw(value: object) -> bytes:
    try:
        if isinstance(value, dict):
            return base64.b64decode(value["base64"], validate=True)
        if isinstance(value, str):
            return value.encode()
    except (KeyError, TypeError, ValueError) as error:
        msg = f"field of the entry is neither text nor base64: {error}"
        raise InvalidMessageError(msg) from error
    msg = f"field of the entry is neither text nor base64 but {type(value).__name__}"
    raise InvalidMessageError(msg)


def _readable(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _keyable(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
