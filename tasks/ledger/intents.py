"""Intents: the entries by which apps, which have no database, tell the ledger what they want run.

One entry of the stream `nightcrew:intents`, all fields text: `v` = 1, `id`, `kind`, `payload` (a JSON object),
`dedup_key` (may be empty), `correlation_id`, `enqueued_at` (Unix time in seconds), `sig` (see
`nightcrew.signing`; only of apps with a key).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from nightcrew.errors import InvalidMessageError
from nightcrew.messages.base import SCHEMA_VERSION
from tasks.ledger.runs import WantedRun, instant, wanted_run

if TYPE_CHECKING:
    from collections.abc import Mapping

READABLE_VERSIONS: Final = frozenset({SCHEMA_VERSION, SCHEMA_VERSION - 1})
"""Of payloads, in intents and in messages alike."""


def parse_intent(fields: Mapping[bytes, bytes]) -> WantedRun:
    """Read one entry.

    Raises:
        InvalidMessageError: it cannot become a run; the text says why.
    """
    texts = _texts(fields)
    if not is_readable_version(texts.get("v")):
        msg = f"intent of version {texts.get('v')!r:.20}; this release reads {sorted(READABLE_VERSIONS)}"
        raise InvalidMessageError(msg)
    return wanted_run(
        job_id=texts.get("id"),
        kind=texts.get("kind", ""),
        payload=parse_object(texts.get("payload", "")),
        dedup_key=texts.get("dedup_key"),
        correlation_id=texts.get("correlation_id"),
        enqueued_at=instant(texts.get("enqueued_at"), name="enqueued_at"),
    )


def is_readable_version(version: object) -> bool:
    """Say whether this release reads payloads of that version (a number, or its text)."""
    return any(version in {known, str(known)} for known in READABLE_VERSIONS if isinstance(version, int | str))


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object; NaN and Infinity, which are no JSON, are refused.

    Raises:
        InvalidMessageError: it is something else.
    """
    try:
        value = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        msg = f"no JSON: {error}"
        raise InvalidMessageError(msg) from error
    if not isinstance(value, dict):
        msg = f"a JSON object was expected, not {type(value).__name__}"
        raise InvalidMessageError(msg)
    return value


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError as error:
        msg = f"intent is not UTF-8: {error}"
        raise InvalidMessageError(msg) from error


def _no_json(constant: str) -> None:
    msg = f"{constant} is no JSON"
    raise ValueError(msg)
