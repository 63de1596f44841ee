"""Tells dead-man switches outside when a run of the timetable starts and how it ends.

A switch sounds the alarm when it hears nothing: it is what still speaks when this machine does not. The ledger writes
each ping as a row in the transaction of the change that it tells of; a thread of the ledger worker sends the rows. So
no job ever waits for somebody else's server, and no ping is lost with a worker.

The addresses are secrets: whoever has one can say that all is well. They stand in no log, no error and no repr.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import structlog
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError  # noqa: A004  the library's own name

from tasks.ledger.pings import MOST_WAITING, DuePing, Failure, body_of, decide_next_try, failure_of_status
from tasks.ledger.store import pings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from tasks.runtime import Runtime

_INTERVAL_S: Final = 1.0
_TIMEOUTS_PER_LEASE: Final = 6
"""A request may take one timeout to connect and one for each part of the answer; then another sender may try."""

_PATHS: Final[Mapping[str, str]] = {"start": "/start", "success": "", "fail": "/fail", "log": "/log"}

_log = structlog.get_logger(__name__)


class PingSender:
    """A thread that sends the pings of the ledger, those of an entry in their order. Any number may run at once."""

    def __init__(
        self,
        runtime: Runtime,
        targets: Mapping[str, SecretStr],
        *,
        timeout_s: float = 10.0,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._runtime = runtime
        self._targets = targets
        self._timeout_s = timeout_s
        self._interval_s = interval_s
        self._lease = timedelta(seconds=_TIMEOUTS_PER_LEASE * timeout_s)
        self._http = urllib3.PoolManager(timeout=timeout_s, retries=False)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ping-sender", daemon=True)
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # on `debug` it writes the path of each request

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request at hand, if it ends in time; what it was about is sent again by the next sender."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._timeout_s)
        self._http.clear()

    def send_due(self) -> int:
        """Try every ping that is due, once; give the count.

        Raises:
            TransientError: the database was in the way; what was claimed is due again after its lease.
        """
        engine, clock, tried = self._runtime.engine, self._runtime.clock, 0
        error = f"more than {MOST_WAITING} newer ones of its entry wait"
        if count := pings.give_up_surplus(engine, most=MOST_WAITING, error=error, now=clock()):
            _log.error("ping.surplus_given_up", count=count, reason=error)
        # One by one: the lease of one that waits for the request of another would run out meanwhile.
        while not self._is_over.is_set() and (ping := pings.claim_due(engine, now=clock(), lease=self._lease)):
            self._try(ping)
            tried += 1
        return tried

    def _try(self, ping: DuePing) -> None:
        engine, failure = self._runtime.engine, self._send(ping)
        now = self._runtime.clock()
        if failure is None:
            pings.note_sent(engine, ping, now=now)
            _log.info("ping.sent", entry=ping.entry, signal=ping.signal, job_id=ping.run_id, tries=ping.tries)
            return
        following = decide_next_try(ping, failure, now=now)
        told = {"entry": ping.entry, "signal": ping.signal, "job_id": ping.run_id, "tries": ping.tries}
        if following.at is None:
            pings.note_given_up(engine, ping, error=following.reason, now=now)
            _log.error("ping.given_up", reason=following.reason, **told)
        else:
            pings.note_failed(engine, ping, error=following.reason, try_at=following.at)
            _log.warning("ping.failed", reason=following.reason, try_at=following.at.isoformat(), **told)

    def _send(self, ping: DuePing) -> Failure | None:
        target = self._targets.get(ping.entry)
        if target is None:
            return Failure(reason="the entry has no address any more", is_final=True)
        url = _address(target.get_secret_value(), ping)
        try:
            # Not one byte of the answer is of interest, and there may be many.
            answer = self._http.request("POST", url, body=body_of(ping.detail), redirect=False, preload_content=False)
            answer.release_conn()
        except (HTTPError, OSError) as error:
            is_late = isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError)
            # The text of the error may have the address in it.
            return Failure(reason="no answer in time" if is_late else f"no connection: {type(error).__name__}")
        return failure_of_status(answer.status)

    def _run(self) -> None:
        while not self._is_over.wait(self._interval_s):
            try:
                self.send_due()
            except Exception as error:  # noqa: BLE001  it must be there when things are well again
                _log.warning("ping.sending_failed", reason=type(error).__name__)


def _address(url: str, ping: DuePing) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, urlencode({"rid": ping.run_id})]))
    path = parts.path.rstrip("/") + _PATHS.get(ping.signal, "/log")
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))
