"""Reconciling without beat.

Beat asks for a reconcile each minute, by a message. A dead beat, or a queue that is stuck, would stop the very thing
that notices lost messages. So the ledger worker looks at the clock itself, and reconciles when nobody else has. A
reconcile walks the timetable: with beat dead for good, every slot is still fired, at most `PATIENCE` and an interval
late.

Some things do not wait for a reconcile: what a worker that fell silent has left behind goes back on its queue some
seconds after its lease, and what apps asked for while no worker was there is taken in when one starts.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from nightcrew.messages import ReconcileLedger
from tasks.ledger.firing import newest_success
from tasks.ledger.reconciliation import reconcile, recover, take_in_intents

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.runtime import Runtime, ScheduleEntry

PATIENCE: Final = timedelta(seconds=90)
"""A reconcile is due each minute, and may take a while."""

_INTERVAL_S: Final = 5.0
"""Costs two looks at an index each time. A killed run begins again after its lease and this, at the latest."""

_log = structlog.get_logger(__name__)


class ReconcileTimer:
    """A thread that recovers at once what a silent worker had, and reconciles when nobody has for `PATIENCE`.

    Any number of them may run at once, in as many processes: each run is released to one of them.
    """

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
        runs = (newest_success(entry, self._runtime) for entry in self._entries())
        ended = [run.finished_at for run in runs if run and run.finished_at]
        return max([self._started_at, *ended, *filter(None, [self._own_at])])

    def _entries(self) -> list[ScheduleEntry]:
        entries = self._runtime.timetable.values()
        return [entry for entry in entries if entry.message.kind == ReconcileLedger.kind]

    def _run(self) -> None:
        self._try(lambda: take_in_intents(self._runtime))
        self._try(lambda: recover(self._runtime))
        while not self._is_over.wait(self._interval_s):
            self._try(lambda: recover(self._runtime))
            self._try(self.reconcile_if_overdue)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001  it is the last net: it must be there when things are well again
            _log.warning("ledger.reconcile_failed", reason=f"{type(error).__name__}: {error}")
