"""What `nightcrew schedule` shows of entries and slots."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from workers.cli.output import console, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from schedules.entries import Entry
    from tasks.ledger.history import HistorySummary, SlotRecord
    from tasks.ledger.overview import EntryStanding

_BAR_CHARACTERS: Final = 24


def entry_document(entry: Entry, standing: EntryStanding | None, *, now: datetime) -> dict[str, Any]:
    """Give an entry as `schedule list` documents it; `standing` is None before there is a database."""
    pause = standing and standing.pause
    return {
        "entry": entry.name,
        "cron": entry.cron,
        "kind": entry.message.kind,
        "payload": entry.message.to_payload(),
        "catch_up": entry.catch_up,
        "grace_s": entry.grace.total_seconds(),
        "max_duration_s": entry.max_duration.total_seconds(),
        "verdict": standing and standing.judgement.verdict,
        "reasons": list(standing.judgement.reasons) if standing else [],
        "paused": pause and asdict(pause),
        "last": standing and standing.last and standing.last.to_json(),
        "next_at": next(entry.slots_after(now)),
        "expires_s": entry.expires.total_seconds(),
    }


def print_entries(documents: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each entry, and below the table what is wrong and what is paused."""
    columns = ("entry", "cron (UTC)", "kind", "is", "last slot", "outcome", "took (s)", "next slot")
    print_table(columns, [_entry_cells(one) for one in documents])
    for one in documents:
        if pause := one["paused"]:
            print_line(
                f"{one['entry']}: paused by {pause['by']} until {pause['until']:%Y-%m-%d %H:%MZ}: {pause['reason']}"
            )
        for reason in one["reasons"]:
            print_line(f"{one['entry']}: {reason}")


def print_history(entry: str, summary: HistorySummary, slots: Sequence[SlotRecord]) -> None:
    """Print the slots, newest first, each with a bar for how long it took, and the summary."""
    if not slots:
        print_line(f"{entry} has no slots yet")
        return
    longest = max((slot.duration for slot in slots if slot.duration), default=None)
    columns = ("slot (UTC)", "outcome", "late by", "took (s)", "", "attempt", "error")
    print_table(columns, [_slot_cells(slot, longest) for slot in slots])
    rate = "-" if summary.success_rate is None else f"{summary.success_rate:.1%}"
    p50, p95, most = (
        "-" if one is None else f"{one.total_seconds():.1f} s"
        for one in (summary.p50_duration, summary.p95_duration, summary.longest_duration)
    )
    last = "never" if summary.last_success_at is None else f"{summary.last_success_at:%Y-%m-%d %H:%MZ}"
    print_line("")
    print_line(
        f"{summary.slots} slots, {rate} succeeded, took p50 {p50}, p95 {p95}, at most {most}; last success {last}"
    )


def _entry_cells(one: Mapping[str, Any]) -> tuple[object, ...]:
    last = one["last"] or {}
    outcome = f"{last['state']}, late" if last.get("late") else last.get("state")
    state = "paused" if one["paused"] else one["verdict"]
    took = None if last.get("duration_s") is None else round(last["duration_s"], 1)
    return (one["entry"], one["cron"], one["kind"], state, last.get("slot_at"), outcome, took, one["next_at"])


def _slot_cells(slot: SlotRecord, longest: timedelta | None) -> tuple[object, ...]:
    took = None if slot.duration is None else round(slot.duration.total_seconds(), 1)
    late_by = _whole(slot.late_by) if slot.is_late and slot.late_by else ""
    return (slot.slot_at, slot.state, late_by, took, _bar(slot.duration, longest), slot.attempt, slot.error or "")


def _bar(duration: timedelta | None, longest: timedelta | None) -> str:
    if not duration or not longest:
        return ""
    sign = "█" if "utf" in console().encoding.lower() else "#"
    return sign * max(1, round(_BAR_CHARACTERS * (duration / longest)))


def _whole(duration: timedelta) -> str:
    return str(duration).partition(".")[0]
