"""The history of an entry of the timetable: what became of its slots, and how long they took."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from tasks.ledger.states import OUTCOMES, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from tasks.ledger.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecord:
    """A slot and its run."""

    slot_at: datetime
    job_id: str
    state: State
    is_late: bool
    """Whether it began after its grace."""
    late_by: timedelta | None
    """Time from the slot to the first attempt; None before that."""
    started_at: datetime | None
    """When the first attempt began."""
    duration: timedelta | None
    """Of the last attempt; of one that works, so far."""
    attempt: int
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, durations in seconds."""
        return {
            "slot_at": self.slot_at,
            "job_id": self.job_id,
            "state": str(self.state),
            "late": self.is_late,
            "late_by_s": _seconds(self.late_by),
            "started_at": self.started_at,
            "duration_s": _seconds(self.duration),
            "attempt": self.attempt,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySummary:
    """Some slots of an entry in a few numbers."""

    slots: int
    success_rate: float | None
    """Share of the slots that ended well among those that were to run and have ended; None without any."""
    p50_duration: timedelta | None
    """Of those that ended well, as the two below: nearest rank, so each is a duration that was measured."""
    p95_duration: timedelta | None
    longest_duration: timedelta | None
    last_success_at: datetime | None
    """Slot of the newest that ended well."""

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, durations in seconds."""
        return {
            "slots": self.slots,
            "success_rate": self.success_rate,
            "p50_duration_s": _seconds(self.p50_duration),
            "p95_duration_s": _seconds(self.p95_duration),
            "longest_duration_s": _seconds(self.longest_duration),
            "last_success_at": self.last_success_at,
        }


def record_of(run: Run, *, now: datetime) -> SlotRecord:
    """Read the run of a slot.

    Raises:
        ValueError: it is the run of no slot.
    """
    if run.slot_at is None:
        msg = f"run {run.id} belongs to no slot"
        raise ValueError(msg)
    started = run.first_started_at
    return SlotRecord(
        slot_at=run.slot_at,
        job_id=run.id,
        state=run.state,
        is_late=run.is_late is True,
        late_by=None if started is None else started - run.slot_at,
        started_at=started,
        duration=_duration(run, now),
        attempt=run.attempt,
        error=run.error,
    )


def summarize(records: Sequence[SlotRecord]) -> HistorySummary:
    """Sum up slots, in any order."""
    ended = [record for record in records if record.state in OUTCOMES - {State.CANCELLED}]
    well = [record for record in ended if record.state is State.SUCCEEDED]
    durations = sorted(record.duration for record in well if record.duration is not None)
    return HistorySummary(
        slots=len(records),
        success_rate=len(well) / len(ended) if ended else None,
        p50_duration=_nearest_rank(durations, 0.50),
        p95_duration=_nearest_rank(durations, 0.95),
        longest_duration=durations[-1] if durations else None,
        last_success_at=max((record.slot_at for record in well), default=None),
    )


def _duration(run: Run, now: datetime) -> timedelta | None:
    if run.started_at is None or run.state is State.QUEUED:
        return None
    return (run.finished_at or now) - run.started_at


def _nearest_rank(ordered: Sequence[timedelta], share: float) -> timedelta | None:
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
