"""The check of the timetable: whether every entry runs when it is due, as long as it should, and ends well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from tasks.ledger.judging import EntryVerdict
    from tasks.ledger.overview import EntryStanding
    from tasks.runtime import ScheduleEntry

_GRAVITY: Final[Mapping[EntryVerdict, int]] = {"overdue": 0, "broken": 1, "overrunning": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFacts:
    """The newest slot of an entry of the timetable, what is due, and how the entry is doing."""

    entry: str
    kind: str
    slot_at: datetime | None
    """None when no slot has a run."""
    job_id: str | None
    state: str | None
    next_at: datetime
    is_overdue: bool
    """A slot has not begun although its grace is over."""
    verdict: EntryVerdict = "ok"
    reasons: Sequence[str] = ()
    """Everything that is wrong, the gravest first."""
    is_late: bool = False
    """Whether the newest slot began after its grace."""
    duration_s: float | None = None
    """Of its last attempt; of one that works, so far."""
    paused_until: datetime | None = None


def slot_facts(entry: ScheduleEntry, standing: EntryStanding, *, now: datetime) -> SlotFacts:
    """Say of an entry what the check and `status` need."""
    last, pause = standing.last, standing.pause
    return SlotFacts(
        entry=entry.name,
        kind=entry.message.kind,
        slot_at=None if last is None else last.slot_at,
        job_id=None if last is None else last.job_id,
        state=None if last is None else str(last.state),
        next_at=next(entry.slots_after(now)),
        is_overdue=standing.judgement.verdict == "overdue",
        verdict=standing.judgement.verdict,
        reasons=standing.judgement.reasons,
        is_late=last is not None and last.is_late,
        duration_s=None if last is None or last.duration is None else last.duration.total_seconds(),
        paused_until=None if pause is None else pause.until,
    )


def check_timetable(slots: Collection[SlotFacts]) -> Finding:
    """Judge whether every entry runs when it is due, as long as it should, and ends well."""
    wrong = sorted((slot for slot in slots if slot.verdict != "ok"), key=lambda slot: _GRAVITY[slot.verdict])
    if not wrong:
        paused = sum(slot.paused_until is not None for slot in slots)
        return ok("timetable", f"{len(slots)} entries, none overdue" + (f", {paused} paused" if paused else ""))
    detail = "; ".join(f"{slot.entry} {slot.verdict}: {', '.join(slot.reasons)}" for slot in wrong)
    judge = warning if wrong[0].verdict == "overrunning" else error
    return judge("timetable", detail, fix=_fix(wrong[0]))


def _fix(slot: SlotFacts) -> str:
    if slot.verdict == "overdue":
        return f"nightcrew schedule run-now {slot.entry}"
    if slot.verdict == "broken":
        return f"nightcrew schedule history {slot.entry}"
    return f"nightcrew jobs show {slot.job_id}"
