"""Everything the crew does by the clock (UTC)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nightcrew.messages import DrainUsage, ReconcileLedger
from schedules.entries import Entry, by_name

ENTRIES: Final = (
    # Doorbells ask for most drains; this one is for those that were lost on the way.
    Entry(
        name="usage-drain",
        cron="* * * * *",
        message=DrainUsage(),
        catch_up="none",
        grace=timedelta(minutes=5),
        max_duration=timedelta(minutes=10),
    ),
    # Takes in what apps asked for, restarts what stopped half-way, and finds the slots that beat missed.
    Entry(
        name="ledger-reconcile",
        cron="* * * * *",
        message=ReconcileLedger(),
        catch_up="none",
        grace=timedelta(minutes=5),
        max_duration=timedelta(minutes=10),
    ),
)

TIMETABLE: Final = by_name(*ENTRIES)
