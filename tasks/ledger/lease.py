"""A lease that is renewed while the work goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import structlog

from tasks.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE = 4
"""Three renewals in a row may fail before the lease is lost."""


SHOW_AFTER_S = 0.05
"""Work that takes no longer is over before anyone would have read that it goes on."""


class Lease:
    """Renews a claim in a thread of its own from entering the block to leaving it.

    The thread ends with the process: a worker that is killed, or stopped for longer than the lease, loses the claim.
    """

    def __init__(self, renew: Callable[[], bool], *, interval_s: float, show: Callable[[], None] | None = None) -> None:
        """Make a lease; `renew` says whether the claim is still the current one, and may raise `TransientError`.

        `show` is called once when the work takes longer than a moment, so that a short job does not wait for it.
        """
        self._renew = renew
        self._show = show
        self._interval_s = interval_s
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Say whether another worker may hold the run by now; work that goes on has no effect any more."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        if self._show is not None and not self._done.wait(SHOW_AFTER_S):
            self._show()
        while not self._done.wait(self._interval_s):
            try:
                held = self._renew()
            except TransientError as error:
                # The next renewal is the retry; when all of them fail, the lease expires and the fence decides.
                _log.warning("ledger.renewal_postponed", error=str(error))
                continue
            if not held:
                self._lost.set()
                _log.warning("ledger.lease_lost")
                return
