"""The jobs of the ledger."""

from __future__ import annotations

from typing import Any

from nightcrew.messages import FireSchedule, ReconcileLedger, RunCanary
from tasks.errors import PermanentError
from tasks.job import doorbell, job
from tasks.ledger import reconciliation
from tasks.ledger.firing import fire_slot
from tasks.ledger.retries import ONCE, STANDARD
from tasks.runtime import Runtime  # noqa: TC001  the jobs of all slices are read by their signatures


@job(ReconcileLedger, retry=ONCE)
def reconcile_ledger(_message: ReconcileLedger, runtime: Runtime) -> dict[str, Any]:
    """Mend what is not as it should be. Idempotent; each slot of the timetable is a run of its own."""
    return reconciliation.reconcile(runtime).to_json()


@job(RunCanary, retry=STANDARD)
def run_canary(message: RunCanary, _runtime: Runtime) -> dict[str, Any]:
    """Go all the way and give the note back."""
    return {"note": message.note}


@doorbell(FireSchedule)
def fire_schedule(message: FireSchedule, runtime: Runtime) -> None:
    """Make the run of the slot at hand. Idempotent by entry and slot; the run of the slot is the record of it."""
    entry = runtime.timetable.get(message.entry)
    if entry is None:
        msg = f"no entry {message.entry!r} in the timetable; there are: {', '.join(sorted(runtime.timetable))}"
        raise PermanentError(msg)
    fire_slot(entry, runtime)
