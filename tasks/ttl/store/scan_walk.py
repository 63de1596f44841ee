"""The walk of a scan over one server: page, rest, look whether the server is well, and so on."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tasks.errors import TransientError
from tasks.ttl.scanning import LatencyWatch, PageSize, percentile, rest_s, wait_s
from tasks.ttl.scans import Footprint
from tasks.ttl.server_state import INSIDE_SCRIPTS, memory_share, own_ms, why_to_wait
from tasks.ttl.store.scan_pages import open_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.ttl.scan_sample import Sample
    from tasks.ttl.scanning import Ended, ScanOptions
    from tasks.ttl.scans import How
    from tasks.ttl.server_state import ServerState
    from tasks.ttl.store.scan_connection import ScanConnection
    from tasks.ttl.store.scan_pages import Page, Pages, Wanted

_BASELINE_PAUSE_S: Final = 0.002
_LOOK_S: Final = 1.0
_TELL_S: Final = 0.5
_JUDGE_KEYS: Final = 1_000
_PINGS_AFTER_PAUSE: Final = 8
_SLOW: Final = "it answers slowly"
_FULL: Final = "its memory is nearly full"
_CROWDED_DUTY: Final = 0.25
"""Of the duty, where a memory that is full is kept full by evictions."""


class Walk:
    """One walk, from the first key on."""

    def __init__(
        self,
        connection: ScanConnection,
        state: ServerState,
        wanted: Wanted,
        sample: Sample,
        options: ScanOptions,
        tick: Callable[[float, str], None],
    ) -> None:
        self._connection = connection
        self._begin = state
        self._wanted = wanted
        self._sample = sample
        self._options = options
        self._tick = tick
        self._size = PageSize(options.page_ms)
        self._duty = options.duty
        self._deadline = time.monotonic() + options.max_s
        self._watch = LatencyWatch([])
        self._ping_s = 0.0
        self._pings: list[float] = []
        self._looked_at = self._told_at = float("-inf")
        self._reason: str | None = None
        self._judged = 0
        self._tally = _Tally()
        self.how: How = "pipeline"
        self.ended: Ended = "time"
        self.total = sample.total(0, 0, is_complete=False)

    @property
    def vanished(self) -> int:
        """Keys that were gone before they could be looked at."""
        return self._tally.given - self._tally.there

    def run(self) -> Footprint:
        """Walk until there is a reason to end, and tell what it did to the server.

        Raises:
            RedisError: as redis-py raises it.
            TransientError: the server was restarted on the way.
        """
        self._connection.introduce(self._begin)
        before = [self._paced_ping() for _ in range(self._options.baseline_pings)]
        self._watch = LatencyWatch(before)
        self._ping_s = statistics.median(before) / 1_000
        pages = open_pages(self._connection, self._wanted, use_script=self._options.use_script)
        self.how = pages.how
        began = time.monotonic()
        self._go(pages)
        seconds = time.monotonic() - began
        end = self._connection.state()
        if end.run_id != self._begin.run_id:
            raise TransientError("the cache's Redis was restarted during the scan")
        self.total = self._sample.total(self._begin.keys, end.keys, is_complete=self.ended == "complete")
        return self._footprint(end, seconds, before)

    def _go(self, pages: Pages) -> None:
        cursor = b"0"
        while self._is_well():
            left = max(1, self._options.budget_keys - self._sample.keys)
            count = min(self._size.count, left)
            page = pages.read(cursor, count)
            read_at = time.monotonic()
            cursor = page.cursor
            busy_s = self._take(page, count)
            if enough := self._why_enough(page):
                self.ended = enough
                return
            self._sleep(read_at + rest_s(busy_s, self._duty) - time.monotonic())
            self._ping()

    def _take(self, page: Page, asked: int) -> float:
        """Learn from a page; give for how long the server was busy with it at most."""
        self._sample.take_page(page.facts, asked=asked, given=page.given, is_last=page.is_last)
        self._tally.take(page)
        seen_s = max(0.0, page.waited_s - page.round_trips * self._ping_s)
        server_s = page.server_s or seen_s
        self._tally.pages_ms.append(server_s * 1_000)
        self._size.took(server_s * 1_000)
        busy_s = max(server_s, seen_s)
        self._tally.busy_s += busy_s
        return busy_s

    def _why_enough(self, page: Page) -> Ended | None:
        if page.is_last:
            return "complete"
        if self._sample.keys >= self._options.budget_keys:
            return "keys"
        if self._tally.name_bytes >= self._options.budget_bytes:
            return "bytes"
        if self._sample.keys >= self._judged + _JUDGE_KEYS:
            self._judged = self._sample.keys
            total = self._sample.total(self._begin.keys, self._begin.keys, is_complete=False)
            if self._sample.is_narrow(total, self._options.target):
                return "target"
        return None

    def _is_well(self) -> bool:
        """Stand back as long as the server has something else to do; False when the time of the scan is over."""
        tries = 0
        while time.monotonic() < self._deadline:
            reason = self._why_to_wait(is_again=tries > 0)
            if reason is None:
                return True
            began = time.monotonic()
            self._sleep(wait_s(tries))
            self._tally.paused_s[reason] += time.monotonic() - began
            tries += 1
        return False

    def _why_to_wait(self, *, is_again: bool) -> str | None:
        if is_again:
            self._watch.forget()
            for _ in range(_PINGS_AFTER_PAUSE):
                self._ping()
        if is_again or time.monotonic() >= self._looked_at + _LOOK_S:
            self._looked_at = time.monotonic()
            self._reason = self._look()
        return self._reason or (_SLOW if self._watch.is_slow else None)

    def _look(self) -> str | None:
        """Ask what the server is at."""
        ask = self._connection.ask
        told = {**ask("INFO", "persistence"), **(ask("INFO", "replication") if self._begin.is_replica else {})}
        if reason := why_to_wait(told):
            return reason
        is_full = memory_share(ask("INFO", "memory")) > self._options.most_memory
        self._duty = self._options.duty * (_CROWDED_DUTY if is_full else 1)
        return _FULL if is_full and not self._begin.is_evicting else None

    def _ping(self) -> None:
        milliseconds = self._connection.ping_ms()
        self._pings.append(milliseconds)
        self._watch.saw(milliseconds)

    def _paced_ping(self) -> float:
        time.sleep(_BASELINE_PAUSE_S)
        return self._connection.ping_ms()

    def _sleep(self, seconds: float) -> None:
        """Let time pass, but not beyond the end of the scan, and never for long without telling how far it is."""
        until = min(time.monotonic() + seconds, self._deadline)
        while True:
            now = time.monotonic()
            if now >= self._told_at + _TELL_S:
                self._told_at = now
                share = min(1.0, self._sample.keys / self._options.budget_keys)
                self._tick(share, f"{self._sample.keys} keys of the cache looked at")
            if now >= until:
                return
            time.sleep(min(until - now, _TELL_S))

    def _footprint(self, end: ServerState, seconds: float, before: Sequence[float]) -> Footprint:
        tally, asked = self._tally, self._connection.asked
        inside = INSIDE_SCRIPTS if self.how == "script" else frozenset()
        paid = {name: calls for name, calls in asked.items() if name not in inside}
        return Footprint(
            place="replica" if self._begin.is_replica else "primary",
            commands=dict(asked),
            server_ms=own_ms(paid, self._begin.commands, end.commands),
            keys_touched=tally.given,
            hits_added=tally.hits,
            misses_added=tally.misses,
            others_hits=_others(self._begin.hits, end.hits, tally.hits),
            others_misses=_others(self._begin.misses, end.misses, tally.misses),
            kept_idle_times=self._connection.is_untouching,
            pages=len(tally.pages_ms),
            page_ms_p50=percentile(tally.pages_ms, 0.50),
            page_ms_p99=percentile(tally.pages_ms, 0.99),
            page_ms_max=max(tally.pages_ms, default=0.0),
            duty=tally.busy_s / seconds if seconds else 0.0,
            seconds=seconds,
            paused_s=dict(tally.paused_s),
            ping_before_ms_p99=percentile(before, 0.99),
            ping_during_ms_p99=percentile(self._pings, 0.99),
        )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What the walk has done so far."""

    given: int = 0
    there: int = 0
    hits: int = 0
    misses: int = 0
    name_bytes: int = 0
    busy_s: float = 0.0
    pages_ms: list[float] = field(default_factory=list)
    paused_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def take(self, page: Page) -> None:
        self.given += page.given
        self.there += len(page.facts)
        self.hits += page.hits
        self.misses += page.misses
        self.name_bytes += sum(len(facts.key) for facts in page.facts)


def _others(before: int, after: int, own: int) -> int | None:
    """Give what others added to a counter; None where it was reset meanwhile."""
    grown = after - before - own
    return grown if grown >= 0 else None
