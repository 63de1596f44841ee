"""Collecting: read what follows the position in the access log, add it up, write it with the new position, and again.

Reading and adding happen outside any lock. The write takes the log's row and succeeds only if the position is still
the one behind which the page was read: the job may come twice, late or never, several workers may be at it, and any of
them may be killed at any moment.

Unlike the usage log this one may be trimmed before it is taken in: its samples are large, and a cache's counters are
not worth an outage of the broker. The log itself counts all that it was ever told (`logged` of its meta), so what is
missing is the difference to what was taken in, and is told as dropped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nightcrew import wire
from nightcrew.signing import Guard
from tasks.errors import PermanentError
from tasks.ttl.accesses import BEGINNING, Counted, Tally, add_up, id_order, producers_of, reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from tasks.ttl.accesses import RawEntry

PAGE_ENTRIES = 100
"""Entries added up for one transaction."""

Applied = Literal["applied", "superseded", "busy"]
"""The page was written · someone else moved the position meanwhile · someone else is writing."""

IncidentKind = Literal["epoch_changed", "log_rolled_back", "counters_dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPosition:
    """How far the log is contained in the counters."""

    epoch: str
    """Which log it is: another one after Redis was wiped."""
    last_id: str = BEGINNING
    settled: Mapping[str, int] = field(default_factory=dict)
    """By family: how many of the operations that this log ever told of are accounted for, as counted or as dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPage:
    """Some entries of the log, and what was true of it in that very moment."""

    epoch: str
    """Empty while no app has begun the log."""
    last_generated_id: str
    """Newest id that the log has ever given."""
    logged: Mapping[str, int]
    """By family: how many operations its entries have told of since it was begun, trimmed ones included."""
    entries: Sequence[RawEntry]
    is_last: bool
    """Nothing followed these entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessIncident:
    """Something happened to the log itself that an operator has to know."""

    kind: IncidentKind
    detail: str


class RefusedCountersError(PermanentError):
    """The database refuses the counters themselves, for example because a sum would pass 2^63 - 1."""


class AccessLog(Protocol):
    """The log, as collecting needs it. Every method raises TransientError while Redis is away."""

    def read(self, *, after: str, count: int) -> AccessPage: ...  # noqa: D102
    def advance_ids(self, entry_id: str) -> None: ...  # noqa: D102


class AccessCounters(Protocol):
    """The database, as collecting needs it. Every method raises TransientError while it is away."""

    def position(self) -> AccessPosition | None: ...  # noqa: D102
    def last_sequences(self, producers: Iterable[str]) -> dict[str, int]: ...  # noqa: D102
    def apply(  # noqa: D102
        self,
        counted: Counted,
        *,
        expected: AccessPosition | None,
        position: AccessPosition,
        now: datetime,
        incidents: Iterable[AccessIncident] = (),
    ) -> Applied: ...


@dataclass(slots=True, kw_only=True)
class CollectReport:
    """What one collection did."""

    entries: int = 0
    operations: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped: int = 0
    """Operations that were in no entry any more."""
    transactions: int = 0
    incidents: list[AccessIncident] = field(default_factory=list)

    def note(self, counted: Counted) -> None:
        """Add a page that was committed."""
        self.transactions += 1
        self.entries += counted.entries
        self.operations += sum(counted.told.values())
        self.duplicates += counted.duplicates
        self.rejected += len(counted.rejected)

    def to_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Collector:
    """Brings the counters up to the end of the log."""

    log: AccessLog
    counters: AccessCounters
    clock: Callable[[], datetime]
    page_entries: int = PAGE_ENTRIES
    guard: Guard = field(default_factory=Guard)

    def run(self) -> CollectReport:
        """Collect until nothing follows, or another worker is at it.

        Raises:
            TransientError: Redis or the database is away; what was committed until then stays.
        """
        report = CollectReport()
        while self._step(report):
            pass
        return report

    def _step(self, report: CollectReport) -> bool:
        """Write one page; tell whether there may be more."""
        expected = self.counters.position()
        page = self.log.read(after=BEGINNING if expected is None else expected.last_id, count=self.page_entries)
        if not page.epoch:
            return False  # no app has begun the log yet
        if expected is not None and expected.epoch != page.epoch:
            page = self.log.read(after=BEGINNING, count=self.page_entries)
            if not page.epoch:
                return False  # wiped once more
            start, incidents = AccessPosition(epoch=page.epoch), [_new_log(expected, page)]
        else:
            start = expected or AccessPosition(epoch=page.epoch)
            incidents = self._settle_rollback(start, page)
        return self._write(page, expected, start, incidents, report)

    def _settle_rollback(self, start: AccessPosition, page: AccessPage) -> list[AccessIncident]:
        """Notice that Redis has lost its newest entries, and keep it from giving their ids to new ones."""
        if id_order(page.last_generated_id) >= id_order(start.last_id):
            return []
        self.log.advance_ids(start.last_id)
        text = f"the log ended at {page.last_generated_id}, before {start.last_id}, which is taken in already"
        return [AccessIncident(kind="log_rolled_back", detail=text)]

    def _write(
        self,
        page: AccessPage,
        expected: AccessPosition | None,
        start: AccessPosition,
        incidents: list[AccessIncident],
        report: CollectReport,
    ) -> bool:
        """Write a page, entry by entry if the database refuses it as a whole; tell whether there may be more."""
        seen = self.counters.last_sequences(producers_of(page.entries))
        check = partial(self.guard.check_entry, wire.ACCESS_LOG)
        counted = add_up(page.entries, seen, after=start.last_id, check=check)
        try:
            return self._apply(page, counted, expected, start, incidents, report)
        except RefusedCountersError as error:
            if len(page.entries) > 1:
                first = replace(page, entries=page.entries[:1], is_last=False)
                return self._write(first, expected, start, incidents, report)
            [entry] = page.entries
            refused = reject(entry, f"the database refuses these counters: {error}")
            return self._apply(page, refused, expected, start, incidents, report)

    def _apply(
        self,
        page: AccessPage,
        counted: Counted,
        expected: AccessPosition | None,
        start: AccessPosition,
        incidents: list[AccessIncident],
        report: CollectReport,
    ) -> bool:
        settled, dropped = _settle(start.settled, counted.told, page)
        position = AccessPosition(epoch=page.epoch, last_id=counted.last_id, settled=settled)
        if position == expected and not incidents:
            return False
        now = self.clock()
        if dropped:
            incidents = [*incidents, _dropped(dropped)]
            counted = counted.with_dropped(dropped, hour=int(now.timestamp()) // 3600)
        applied = self.counters.apply(counted, expected=expected, position=position, now=now, incidents=incidents)
        if applied == "applied":
            report.note(counted)
            report.dropped += sum(dropped.values())
            report.incidents += incidents
        return applied == "superseded" or (applied == "applied" and not page.is_last)


def _settle(
    settled: Mapping[str, int], told: Mapping[str, int], page: AccessPage
) -> tuple[dict[str, int], dict[str, int]]:
    """Give what is accounted for behind a page, and, where it is the last, what no entry accounts for.

    Where the counters know more than the log ever told, Redis has lost its newest second: nothing is missing of that,
    and from here on they are even.
    """
    after = {family: settled.get(family, 0) + told.get(family, 0) for family in {*settled, *told}}
    if not page.is_last:
        return after, {}
    missing = {family: logged - after.get(family, 0) for family, logged in page.logged.items()}
    return dict(page.logged), {family: many for family, many in missing.items() if many > 0}


def _new_log(expected: AccessPosition, page: AccessPage) -> AccessIncident:
    text = f"log {expected.epoch} (taken in up to {expected.last_id}) is gone; log {page.epoch} took its place"
    return AccessIncident(kind="epoch_changed", detail=text)


def _dropped(dropped: Mapping[str, int]) -> AccessIncident:
    families = ", ".join(f"{many} of {family}" for family, many in sorted(dropped.items()))
    text = f"the log told of operations that no readable entry holds any more: {families}"
    return AccessIncident(kind="counters_dropped", detail=text)


__all__ = [
    "PAGE_ENTRIES",
    "AccessCounters",
    "AccessIncident",
    "AccessLog",
    "AccessPage",
    "AccessPosition",
    "Applied",
    "CollectReport",
    "Collector",
    "RefusedCountersError",
    "Tally",
]
