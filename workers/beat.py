"""Beat: sends `schedules.fire` for each entry of the timetable when a slot of it begins.

It decides nothing. Which slot is meant and whether it was fired already, the job looks up in the ledger, so a beat
that restarts, a second beat and a late beat do no harm. When Redis is away, beat waits with the message in its hand.

Owns `<data_dir>/beat-schedule.json` (when each entry was last sent) and the Redis key `nightcrew:beat:heartbeat`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import structlog
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import BaseSchedule, schedstate
from celery.utils import uuid
from redis.exceptions import RedisError

from nightcrew import _redis, wire
from nightcrew.messages import FireSchedule
from nightcrew.messages.base import SCHEMA_VERSION
from schedules.timetable import ENTRIES
from workers.beat_signing import signer_of
from workers.celery_config import OPTIONAL_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from celery import Celery

HEARTBEAT_TTL_S: Final = 60
"""Twelve times the longest pause between two ticks."""

_HEARTBEAT_TIMEOUT_S: Final = 2.0

PUBLISH_FOREVER: Final = {"max_retries": None, "interval_start": 0, "interval_step": 0.5, "interval_max": 5}
"""With Celery's default of 3 a tick is dropped in silence when Redis is away at that second (measured)."""

_log = structlog.get_logger(__name__)


class TimetableEntry(Protocol):
    """What beat needs to know of an entry."""

    @property
    def name(self) -> str:
        """Its name, in kebab case."""

    @property
    def expires(self) -> timedelta:
        """How long its message is worth delivering."""

    def slots_after(self, instant: datetime) -> Iterator[datetime]:
        """Give the slots after the instant, without end."""


class SlotSchedule(BaseSchedule):
    """A schedule of Celery that asks the timetable: there is one arithmetic of slots, not two."""

    def __init__(self, entry: TimetableEntry, app: Celery | None = None) -> None:
        super().__init__(app=app)
        self._entry = entry

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Tell whether a slot has begun since, and how many seconds the next one is away."""
        now = self._utc_now()
        # A clock that was set back must not silence beat until it has caught up with what the file says.
        next_slot = next(self._entry.slots_after(min(last_run_at, now)))
        if next_slot > now:
            return schedstate(is_due=False, next=(next_slot - now).total_seconds())
        return schedstate(is_due=True, next=(next(self._entry.slots_after(now)) - now).total_seconds())

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Tell how far away the slot after that instant is."""
        return next(self._entry.slots_after(last_run_at)) - self._utc_now()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotSchedule) and other._entry == self._entry

    def __hash__(self) -> int:
        return hash(self._entry.name)

    def _utc_now(self) -> datetime:
        now: datetime = self.now()
        return now.astimezone(UTC)


class TimetableScheduler(Scheduler):
    """Beat's scheduler: what every crew does, and what its settings choose. A test adds entries by a subclass."""

    entries: ClassVar[Sequence[TimetableEntry]] = ENTRIES

    def __init__(
        self, app: Celery, *, schedule_filename: str | None = None, lazy: bool = False, **options: Any
    ) -> None:
        self._file = Path(schedule_filename or app.conf.beat_schedule_filename)
        self._heartbeat = _redis.connect(app.conf.broker_url, _HEARTBEAT_TIMEOUT_S)
        super().__init__(app, lazy=lazy, **options)

    def setup_schedule(self) -> None:
        """Make an entry of Celery for each of the timetable, with what the file knows of it."""
        last = self._read()
        entries = (*self.entries, *self.app.conf.get(OPTIONAL_ENTRIES, ()))
        self.schedule = {entry.name: self._celery_entry(entry, last.get(entry.name)) for entry in entries}

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due, and show that beat is alive."""
        pause: float = super().tick(*arguments, **options)
        self._beat()
        return pause

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **_: Any) -> Any:  # noqa: FBT001, FBT002  Celery's signature
        """Send the message of an entry; does not return before Redis has it."""
        if advance:
            self.reserve(entry)
        task_id, payload = uuid(), FireSchedule(entry=str(entry.name)).to_payload()
        try:
            return self.app.send_task(
                FireSchedule.kind,
                kwargs=payload,
                task_id=task_id,
                queue=FireSchedule.queue,
                producer=producer,
                expires=(entry.options or {})["expires"],
                headers=self._headers(task_id, payload),
                ignore_result=True,
                argsrepr="()",
                kwargsrepr=f"{{entry={entry.name}}}",
                retry=True,
                retry_policy=PUBLISH_FOREVER,
            )
        finally:
            self.sync()

    def sync(self) -> None:
        """Write down when each entry was last sent. A crash leaves the old file or the new one, never half of one."""
        if self.schedule is None:
            return
        sent = {name: _utc(entry.last_run_at).isoformat() for name, entry in self.schedule.items()}
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"version": 1, "last_sent_at": sent}, indent=1) + "\n", encoding="utf-8")
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(self._file)

    def close(self) -> None:
        """End; the next beat goes on from here."""
        self.sync()
        self._heartbeat.close()

    @property
    def info(self) -> str:
        """Give a line for Celery's banner."""
        return f"    . schedule -> {self._file}"

    def _headers(self, task_id: str, payload: dict[str, Any]) -> dict[str, Any]:
        headers: dict[str, Any] = {
            wire.HEADER_SCHEMA: SCHEMA_VERSION,
            wire.HEADER_ENQUEUED_AT: time.time(),
            wire.HEADER_CORRELATION_ID: task_id,
        }
        if (signer := signer_of(self.app)) is not None:
            kind = FireSchedule.kind
            headers[wire.HEADER_SIGNATURE] = signer.sign_message(
                kind=kind, job_id=task_id, payload=payload, headers=headers
            )
        return headers

    def _celery_entry(self, entry: TimetableEntry, last_sent_at: datetime | None) -> ScheduleEntry:
        # Without a note an entry waits for its next slot; whether one before it was missed, the ledger knows.
        return self.Entry(
            name=entry.name,
            task=FireSchedule.kind,
            schedule=SlotSchedule(entry, app=self.app),
            last_run_at=last_sent_at or datetime.now(UTC),
            options={"expires": entry.expires.total_seconds()},
            app=self.app,
        )

    def _read(self) -> dict[str, datetime]:
        """Read when each entry was last sent. A file that cannot be read is one that is not there, and says so."""
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: datetime.fromisoformat(at).astimezone(UTC) for name, at in content["last_sent_at"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("beat.schedule_unreadable", path=str(self._file), reason=f"{type(error).__name__}: {error}")
            return {}

    def _beat(self) -> None:
        """Show that beat is alive. It is for those who look; sending the next message matters more."""
        try:
            self._heartbeat.set(wire.BEAT_HEARTBEAT, repr(time.time()), ex=HEARTBEAT_TTL_S)
        except RedisError as error:
            _log.warning("beat.heartbeat_failed", reason=str(error))
            with contextlib.suppress(RedisError):
                self._heartbeat.connection_pool.disconnect()


def _utc(instant: datetime | None) -> datetime:
    return datetime.now(UTC) if instant is None else instant.astimezone(UTC)
