"""What a list item in Redis must look like to be a Celery message of ours, and the dead letter of one that does not.

Celery takes most of an envelope on trust, and a wrong type somewhere in it ends the worker. So everything that kombu
and Celery 5.6 look at is checked here first: the envelope of kombu's virtual transports
(https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.virtual.html) around a task message of
protocol 2 (https://docs.celeryq.dev/en/stable/internals/protocol.html). Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.app.task import Context
from kombu.utils import json as kombu_json

from nightcrew import wire
from tasks.errors import PermanentError
from tasks.ledger.dead_letters import DeadLetter

LONGEST_ITEM_BYTES: Final = 5 * wire.MAX_PAYLOAD_BYTES
"""The largest payload with all around it: on the way JSON writes two bytes as six (`\\u00e9`), base64 three as four.

Reading a larger item would take many times its size in memory."""

LONGEST_ETA: Final = timedelta(minutes=15)
"""A worker holds a message until its time has come. Due times further away belong in the ledger."""

_FARTHEST_EXPIRY: Final = timedelta(days=3660)
_LONGEST_NAME: Final = 255
_HIGHEST_PRIORITY: Final = 9
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")

_TEXT: Final = (str, type(None))
_HEADERS: Final[dict[str, tuple[type, ...]]] = {
    "argsrepr": _TEXT,
    "eta": _TEXT,
    "expires": _TEXT,
    "group": _TEXT,
    "group_index": (int, type(None)),
    "id": (str,),
    "ignore_result": (bool, type(None)),
    "kwargsrepr": _TEXT,
    "lang": _TEXT,
    "origin": _TEXT,
    "parent_id": _TEXT,
    "replaced_task_nesting": (int,),
    "retries": (int,),
    "root_id": _TEXT,
    "shadow": _TEXT,
    "stamped_headers": (list, type(None)),
    "stamps": (dict, type(None)),
    "task": (str,),
    "timelimit": (list, type(None)),
}
"""The headers that Celery reads, and what it expects there."""


class MalformedEnvelopeError(PermanentError):
    """A list item is no message that a worker can read; the text says why."""


def read_item(item: bytes, *, queue: str, now: datetime) -> dict[str, Any]:
    """Read an item of a queue.

    Raises:
        MalformedEnvelopeError: a worker would stumble over it.
    """
    envelope = _json(item, "item")
    check_envelope(envelope, queue=queue, now=now)
    return envelope  # type: ignore[no-any-return]  # check_envelope lets nothing but an object pass


def read_unacked(item: bytes, *, now: datetime) -> tuple[dict[str, Any], str]:
    """Read a value of the unacked hash (`[envelope, exchange, routing key]`); give the envelope and its queue.

    Raises:
        MalformedEnvelopeError: it cannot be put back on a queue.
    """
    match _json(item, "unacked entry"):
        case [envelope, str(), str(queue)]:
            check_envelope(envelope, queue=queue, now=now)
            return envelope, queue
    msg = "unacked entry is not [envelope, exchange, routing key]"
    raise MalformedEnvelopeError(msg)


def check_envelope(envelope: object, *, queue: str, now: datetime) -> None:
    """Let pass what kombu and Celery can read from head to foot.

    Raises:
        MalformedEnvelopeError: with the first fault found.
    """
    parts = _object(envelope, "message")
    if (parts.get("content-type"), parts.get("content-encoding")) != ("application/json", "utf-8"):
        msg = (
            f"content is {parts.get('content-type')!r:.50} in {parts.get('content-encoding')!r:.50}, not JSON in UTF-8"
        )
        raise MalformedEnvelopeError(msg)
    properties = _object(parts.get("properties"), "properties")
    _check_properties(properties, queue=queue)
    _check_headers(_object(parts.get("headers"), "headers"), now=now)
    _check_body(parts.get("body"), encoding=properties.get("body_encoding"))


def letter_of_item(item: bytes, *, source: str, reason: str, received_at: datetime) -> DeadLetter:
    """Make the letter of an item: as it came when it is a JSON object, else wrapped as text or base64."""
    try:
        text = item.decode()
    except UnicodeDecodeError:
        body = json.dumps({"base64": base64.b64encode(item).decode()})
        headers: dict[str, Any] = {}
    else:
        body, headers = _body_and_headers(text)
    return DeadLetter(
        source=source,
        kind=_text_or_none(headers.get("task")),
        job_id=_text_or_none(headers.get("id")),
        reason=reason,
        body=body,
        received_at=received_at,
    )


def _check_properties(properties: dict[str, Any], *, queue: str) -> None:
    route = _object(properties.get("delivery_info"), "delivery_info")
    if not isinstance(route.get("exchange"), str) or route.get("routing_key") != queue:
        msg = f"routing key is {route.get('routing_key')!r:.80}, but the message stands in {queue}"
        raise MalformedEnvelopeError(msg)
    if not _printable(properties.get("delivery_tag")):
        raise MalformedEnvelopeError("delivery_tag is no name")
    for name in ("correlation_id", "reply_to"):
        _check_type(properties.get(name), _TEXT, name)
    priority = properties.get("priority")
    _check_type(priority, (int, type(None)), "priority")
    if priority is not None and not 0 <= priority <= _HIGHEST_PRIORITY:
        msg = f"priority is {priority!r:.20}, not 0 to {_HIGHEST_PRIORITY}"
        raise MalformedEnvelopeError(msg)


def _check_headers(headers: dict[str, Any], *, now: datetime) -> None:
    for name in ("task", "id"):
        if not _printable(headers.get(name)):
            msg = f"header {name} is {headers.get(name)!r:.80}: no task message of protocol 2"
            raise MalformedEnvelopeError(msg)
    for name, value in headers.items():
        if name in _HEADERS:
            _check_type(value, _HEADERS[name], f"header {name}")
        elif name == "compression" or name.startswith("_") or hasattr(Context, name):
            # Celery would take it for an attribute of the request, and some of those are its own methods.
            msg = f"header {name!r:.80} is not one that a message may bring"
            raise MalformedEnvelopeError(msg)
    _check_unused(headers)
    _check_instant(headers.get("eta"), "eta", now=now, farthest=LONGEST_ETA)
    _check_instant(headers.get("expires"), "expires", now=now, farthest=_FARTHEST_EXPIRY)


def _check_unused(headers: dict[str, Any]) -> None:
    """Refuse what Celery offers and no message of ours uses."""
    if any(limit is not None for limit in headers.get("timelimit") or ()):
        raise MalformedEnvelopeError("header timelimit is set: time limits belong to the job, not to its messages")
    if headers.get("stamps") or headers.get("stamped_headers"):
        raise MalformedEnvelopeError("header stamps is set: messages here carry none")
    if headers.get("retries", 0) < 0:
        raise MalformedEnvelopeError("header retries is negative")


def _check_instant(value: str | None, name: str, *, now: datetime, farthest: timedelta) -> None:
    if value is None:
        return
    try:
        instant = datetime.fromisoformat(value) if _INSTANT.fullmatch(value) else None
    except ValueError:
        instant = None
    if instant is None or instant - now < -_FARTHEST_EXPIRY:
        msg = f"header {name} is {value!r:.50}, no instant with a UTC offset that a message can mean"
        raise MalformedEnvelopeError(msg)
    if instant - now > farthest:
        msg = f"header {name} is {value!r:.50}, more than {farthest} ahead"
        raise MalformedEnvelopeError(msg)


def _check_body(body: object, *, encoding: object) -> None:
    if encoding != "base64" or not isinstance(body, str):
        msg = f"body is not base64 text (body_encoding {encoding!r:.50})"
        raise MalformedEnvelopeError(msg)
    try:
        content = base64.b64decode(body)  # as leniently as kombu
    except (binascii.Error, ValueError) as error:
        msg = f"body is not base64: {error}"
        raise MalformedEnvelopeError(msg) from error
    match _json(content, "body"):
        case [list(), dict(), dict(embedded)]:
            if any(embedded.values()):
                raise MalformedEnvelopeError(
                    "body brings callbacks or a chain: what follows a job is not told by messages"
                )
        case _:
            raise MalformedEnvelopeError("body is not [args, kwargs, embed]")


def _json(item: bytes, what: str) -> Any:
    if len(item) > LONGEST_ITEM_BYTES:
        msg = f"{what} has {len(item)} bytes, at most {LONGEST_ITEM_BYTES}"
        raise MalformedEnvelopeError(msg)
    try:
        # kombu's reader, because it is the one that must not fail afterwards: it revives dates, decimals and more.
        return kombu_json.loads(item)
    except Exception as error:  # whatever a stranger's bytes make a parser raise is the fault of the bytes
        msg = f"{what} is no JSON: {type(error).__name__}: {error!s:.200}"
        raise MalformedEnvelopeError(msg) from error


def _body_and_headers(text: str) -> tuple[str, dict[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return json.dumps({"text": text}), {}
    headers = content.get("headers")
    return text, headers if isinstance(headers, dict) else {}


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{what} must be a JSON object, not {type(value).__name__}"
        raise MalformedEnvelopeError(msg)
    return value


def _check_type(value: object, allowed: tuple[type, ...], what: str) -> None:
    # By the exact type: a bool is an int to Python.
    if type(value) not in allowed:
        msg = f"{what} must not be {type(value).__name__}"
        raise MalformedEnvelopeError(msg)


def _printable(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def utc_now() -> datetime:
    """Give the instant by which a message is judged."""
    return datetime.now(UTC)
