"""The two values of the ledger: a run that is wanted, and a run as it stands in the table."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from nightcrew import wire
from nightcrew.errors import InvalidMessageError
from nightcrew.messages import message_type
from tasks.ledger.states import OUTCOMES, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

MAX_NAME_CHARACTERS: Final = 500
"""Longest dedup key and correlation id: they stand in an index and in every log line."""

MAX_ERROR_CHARACTERS: Final = 4_000

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRun:
    """A run that somebody asked for; `wanted_run` makes and checks one."""

    id: str
    kind: str
    queue: str
    dedup_key: str | None
    payload: dict[str, Any]
    correlation_id: str
    enqueued_at: datetime
    parent_id: str | None = None
    entry: str | None = None
    slot_at: datetime | None = None
    late_after: datetime | None = None
    start_before: datetime | None = None
    watched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it stands in the table; the columns of `JobRun` say what each field means."""

    id: str
    kind: str
    queue: str
    dedup_key: str | None
    payload: dict[str, Any]
    state: State
    revision: int
    attempt: int
    max_attempts: int | None
    fence: int
    worker: str | None
    lease_until: datetime | None
    heartbeat_at: datetime | None
    progress: float | None
    progress_text: str | None
    result: Any
    error: str | None
    correlation_id: str
    enqueued_at: datetime
    queued_at: datetime
    published_at: datetime | None
    republish_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    first_started_at: datetime | None
    parent_id: str | None
    entry: str | None
    slot_at: datetime | None
    late_after: datetime | None
    start_before: datetime | None
    watched: bool
    cancel_requested_at: datetime | None
    cancel_reason: str | None

    @property
    def has_ended(self) -> bool:
        """Say whether nothing but an operator can change it any more."""
        return self.state in OUTCOMES

    @property
    def is_late(self) -> bool | None:
        """Say whether the first attempt began late; None when it has not begun, or when there is no late."""
        if self.late_after is None or self.first_started_at is None:
            return None
        return self.first_started_at > self.late_after

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, instants in ISO 8601, and `late`: true, false or null."""
        return {**as_json(self), "late": self.is_late}


def wanted_run(
    *,
    job_id: object,
    kind: str,
    payload: Mapping[str, Any],
    dedup_key: object,
    correlation_id: object,
    enqueued_at: datetime,
) -> WantedRun:
    """Check what came over the wire.

    The payload is kept as it came, unknown fields included: a newer worker may know them.

    Raises:
        InvalidMessageError: the kind is unknown, or a field cannot stand in the ledger.
    """
    message = message_type(kind)
    message.from_payload(payload)
    checked_id = _uuid(job_id)
    return WantedRun(
        id=checked_id,
        kind=kind,
        queue=message.queue,
        dedup_key=_name(dedup_key, "dedup_key"),
        payload=_storable(payload),
        correlation_id=_name(correlation_id, "correlation_id") or checked_id,
        enqueued_at=enqueued_at,
    )


def is_job_id(value: object) -> TypeGuard[str]:
    """Say whether it is a UUID in its usual form."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def instant(value: object, *, name: str) -> datetime:
    """Read Unix time in seconds, given as a number or as text.

    Raises:
        InvalidMessageError: it is no instant that a calendar has.
    """
    try:
        return datetime.fromtimestamp(float(value), UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError) as error:
        msg = f"{name} must be Unix time in seconds, not {value!r:.50}"
        raise InvalidMessageError(msg) from error


def clean(text: str, *, limit: int = MAX_ERROR_CHARACTERS) -> str:
    r"""Make text fit for a column: PostgreSQL takes no NUL, and no driver takes half a surrogate pair."""
    whole = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def as_json(value: DataclassInstance) -> dict[str, Any]:
    """Give the fields of a dataclass as JSON values, instants in ISO 8601."""
    fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {name: part.isoformat() if isinstance(part, datetime) else part for name, part in fields}


def _uuid(value: object) -> str:
    if not is_job_id(value):
        msg = f"job id must be a UUID in its usual form, not {value!r:.80}"
        raise InvalidMessageError(msg)
    return value


def _name(value: object, field: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS or clean(value) != value:
        msg = f"{field} must be text of at most {MAX_NAME_CHARACTERS} characters without NUL, not {value!r:.80}"
        raise InvalidMessageError(msg)
    return value


def _storable(payload: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size_bytes = len(text.encode("utf-8", "surrogatepass"))
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"payload is no JSON that every reader takes: {error}"
        raise InvalidMessageError(msg) from error
    if size_bytes > wire.MAX_PAYLOAD_BYTES:
        msg = f"payload has {size_bytes} bytes, at most {wire.MAX_PAYLOAD_BYTES} are allowed: send a reference"
        raise InvalidMessageError(msg)
    return dict(payload)
