"""Drain: read what follows the position, merge it, write it together with the new position, until nothing follows.

Reading and merging happen outside any lock. The write takes the partition's row and succeeds only if the position is
still the one behind which the batch was read. Hence a doorbell may come twice, late or never, several workers may
drain the same partition, and any of them may be killed at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from nightcrew import wire
from nightcrew.signing import Guard
from tasks.usage.compaction import decode_segment
from tasks.usage.entries import BEGINNING, id_order
from tasks.usage.merging import Batch, merge_entries, producers_of, reject_batch
from tasks.usage.position import Incident, LogGapError, Position, RefusedCountsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from tasks.usage.position import Applied, LogPage

PAGE_ENTRIES = 100
"""Entries merged for one transaction: at most 500,000 counts, and 10,000 or so where keys repeat."""


class UsageLog(Protocol):
    """The log, as the drain needs it. Every method raises TransientError while Redis is away."""

    def clear_bell(self, partition: int) -> None: ...  # noqa: D102
    def read(self, partition: int, *, after: str, count: int) -> LogPage: ...  # noqa: D102
    def advance_ids(self, partition: int, entry_id: str) -> None: ...  # noqa: D102
    def delete(self, partition: int, entry_ids: Sequence[str]) -> None: ...  # noqa: D102


class UsageCounts(Protocol):
    """The database, as the drain needs it. Every method raises TransientError while it is away."""

    def position(self, partition: int) -> Position | None: ...  # noqa: D102
    def last_sequences(self, partition: int, producers: Iterable[str]) -> dict[str, int]: ...  # noqa: D102
    def apply(  # noqa: D102
        self,
        partition: int,
        batch: Batch,
        *,
        expected: Position | None,
        epoch: str,
        now: datetime,
        incidents: Iterable[Incident] = (),
    ) -> Applied: ...


@dataclass(slots=True, kw_only=True)
class DrainReport:
    """What a drain did to one partition."""

    partition: int
    entries: int = 0
    increments: int = 0
    duplicates: int = 0
    rejected: int = 0
    transactions: int = 0
    incidents: list[Incident] = field(default_factory=list)

    def note(self, batch: Batch) -> None:
        """Add a batch that was committed."""
        self.transactions += 1
        self.entries += batch.entry_count
        self.increments += batch.increments
        self.duplicates += len(batch.duplicates)
        self.rejected += len(batch.rejected)


@dataclass(frozen=True, slots=True)
class Drain:
    """Brings the counts of a partition up to the end of its log."""

    log: UsageLog
    counts: UsageCounts
    clock: Callable[[], datetime]
    page_entries: int = PAGE_ENTRIES
    guard: Guard = field(default_factory=Guard)

    def run(self, partition: int) -> DrainReport:
        """Drain until nothing follows, or another worker is at it.

        Raises:
            TransientError: Redis or the database is away; what was committed until then stays.
            LogGapError: the log was trimmed beyond the position; nothing was changed.
        """
        report = DrainReport(partition=partition)
        # Before the first read: an entry that comes later rings anew, and one that came earlier is read.
        self.log.clear_bell(partition)
        while self._step(partition, report):
            pass
        return report

    def _step(self, partition: int, report: DrainReport) -> bool:
        """Write one batch; tell whether there may be more."""
        expected = self.counts.position(partition)
        page = self.log.read(partition, after=_after(expected), count=self.page_entries)
        if not page.epoch:
            return False  # no producer has begun the log yet
        if expected is not None and expected.epoch != page.epoch:
            page = self.log.read(partition, after=BEGINNING, count=self.page_entries)
            start, incidents = Position(epoch=page.epoch, last_id=BEGINNING), [_new_log(expected, page)]
        else:
            start = expected or Position(epoch=page.epoch, last_id=BEGINNING)
            incidents = self._settle_rollback(partition, start, page)
        if not page.entries and not incidents:
            return False
        _check_continuity(start, page)
        written = self._write(partition, page, (expected, start), incidents)
        for batch in written or ():
            report.note(batch)
        report.incidents += incidents if written else []
        return written is not None

    def _settle_rollback(self, partition: int, start: Position, page: LogPage) -> list[Incident]:
        """Notice that Redis has lost its newest entries, and keep it from giving their ids to new ones."""
        if id_order(page.last_generated_id) >= id_order(start.last_id):
            return []
        self.log.advance_ids(partition, start.last_id)
        text = f"the log ended at {page.last_generated_id}, before {start.last_id}, which is applied already"
        return [Incident(kind="log_rolled_back", detail=text)]

    def _write(
        self, partition: int, page: LogPage, positions: tuple[Position | None, Position], incidents: list[Incident]
    ) -> list[Batch] | None:
        """Write a page, entry by entry if the database refuses it as a whole; None if another worker is at it."""
        expected, start = positions
        batch = self._merge(partition, page, start)
        if batch.duplicates:
            # They are contained in the counts already. Without them, what the log has behind it can be merged
            # by anyone who does not know the producers' sequences of that time.
            self.log.delete(partition, batch.duplicates)
        try:
            applied = self._apply(partition, batch, expected, page.epoch, incidents)
        except RefusedCountsError as error:
            if page.segment_ids is not None or len(page.entries) == 1:
                return self._refuse(partition, page, expected, str(error))
            return self._write(partition, replace(page, entries=page.entries[:1]), positions, incidents)
        return [batch] if applied == "applied" else ([] if applied == "superseded" else None)

    def _merge(self, partition: int, page: LogPage, start: Position) -> Batch:
        if page.segment_ids is not None:
            # Segments bear no signature: the crew itself wrote them, to a stream that no producer may write.
            segment_id, fields = page.entries[0]
            return decode_segment(segment_id, fields).batch
        seen = self.counts.last_sequences(partition, producers_of(page.entries))
        check = partial(self.guard.check_entry, wire.usage_stream(partition))
        return merge_entries(page.entries, seen, after=start.last_id, check=check)

    def _refuse(self, partition: int, page: LogPage, expected: Position | None, reason: str) -> list[Batch] | None:
        """Pass over a single entry that the database refuses, and keep it as a dead letter."""
        batch = reject_batch(page.entries[0], f"the database refuses these counts: {reason}")
        return [batch] if self._apply(partition, batch, expected, page.epoch, []) == "applied" else []

    def _apply(
        self, partition: int, batch: Batch, expected: Position | None, epoch: str, incidents: list[Incident]
    ) -> Applied:
        now = self.clock()
        return self.counts.apply(partition, batch, expected=expected, epoch=epoch, now=now, incidents=incidents)


def _after(position: Position | None) -> str:
    return BEGINNING if position is None else position.last_id


def _new_log(expected: Position, page: LogPage) -> Incident:
    text = f"log {expected.epoch} (applied up to {expected.last_id}) is gone; log {page.epoch} took its place"
    return Incident(kind="epoch_changed", detail=text)


def _check_continuity(start: Position, page: LogPage) -> None:
    """Refuse to go on over a gap: counts that nobody can explain are worse than counts that stand still."""
    if page.segment_ids is not None and id_order(page.segment_ids[0]) <= id_order(start.last_id):
        msg = (
            f"the database stands at {start.last_id}, inside the compacted stretch {page.segment_ids[0]} to "
            f"{page.segment_ids[1]}: restore a newer copy, or one of the restore points"
        )
        raise LogGapError(msg)
    if id_order(page.forgotten_id) > id_order(start.last_id):
        msg = (
            f"the database stands at {start.last_id}, but the log was forgotten up to {page.forgotten_id}: "
            "restore a newer copy, or the newest proven restore point"
        )
        raise LogGapError(msg)
