"""Reconciling without beat.

Beat asks for a reconcile each minute, by a message. A dead beat, or a queue that is stuck, would stop the very thing
that notices lost messages. So the ledger worker looks at the clock itself, and reconciles when nobody else has.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from nightcrew.messages import ReconcileLedger
from tasks.ledger.firing import newest_slot_run
from tasks.ledger.reconciliation import reconcile
from tasks.ledger.states import State

if TYPE_CHECKING:
    from tasks.runtime import Runtime, ScheduleEntry

PATIENCE: Final = timedelta(seconds=90)
"""A reconcile is due each minute, and may take a while."""

_INTERVAL_S: Final = 30.0

_log = structlog.get_logger(__name__)


class ReconcileTimer:
    """A thread that reconciles when no reconcile has succeeded for `PATIENCE`."""

    def __init__(self, runtime: Runtime, *, interval_s: float = _INTERVAL_S) -> None:
        self._runtime = runtime
        self._interval_s = interval_s
        self._started_at = runtime.clock()
        self._own_at: datetime | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile-timer", daemon=True)

    def start(self) -> None:
        """Begin to look at the clock."""
        self._thread.start()

    def stop(self) -> None:
        """End after the reconcile at hand, if there is one."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def reconcile_if_overdue(self) -> bool:
        """Reconcile if nobody has in time; tell whether that was so.

        Raises:
            TransientError: database or broker were in the way.
        """
        now = self._runtime.clock()
        if now - self._newest() <= PATIENCE:
            return False
        _log.warning("ledger.reconcile_overdue", since=self._newest().isoformat())
        reconcile(self._runtime)
        self._own_at = now
        return True

    def _newest(self) -> datetime:
        """Give the instant of the newest reconcile that is known to have ended well, and not one before the start."""
        runs = (newest_slot_run(entry, self._runtime) for entry in self._entries())
        ended = [run.finished_at for run in runs if run and run.state is State.SUCCEEDED and run.finished_at]
        return max([self._started_at, *ended, *filter(None, [self._own_at])])

    def _entries(self) -> list[ScheduleEntry]:
        entries = self._runtime.timetable.values()
        return [entry for entry in entries if entry.message.kind == ReconcileLedger.kind]

    def _run(self) -> None:
        while not self._is_over.wait(self._interval_s):
            try:
                self.reconcile_if_overdue()
            except Exception as error:  # noqa: BLE001  it is the last net: it must be there when things are well again
                _log.warning("ledger.reconcile_failed", reason=f"{type(error).__name__}: {error}")
