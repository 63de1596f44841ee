"""Housekeeping of the log: merge what is old, forget what is proven, speak up when neither is enough."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from nightcrew import wire
from nightcrew.signing import Guard, SignatureError
from tasks.usage.compaction import compact, compaction_end, decode_segment, join, may_join
from tasks.usage.entries import BEGINNING, id_order, logged_ms
from tasks.usage.position import Incident
from tasks.usage.trimming import LogSize, TrimDecision, decide_trim

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from tasks.runtime import UsageOptions
    from tasks.usage.compaction import Segment
    from tasks.usage.merging import RawEntry
    from tasks.usage.position import Position

# Segments are rewritten when they grow: waiting for an hour's worth keeps that to 24 times a day.
_COMPACT_EVERY: Final = timedelta(hours=1)
_SEGMENT_ENTRIES: Final = 1_000


class KeptLog(Protocol):
    """The log, as housekeeping needs it. Every method raises TransientError while Redis is away."""

    def first_id(self, partition: int) -> str | None: ...  # noqa: D102
    def memory_bytes(self, partition: int) -> int: ...  # noqa: D102
    def forget(self, partition: int, upto: str) -> None: ...  # noqa: D102
    def read_raw(self, partition: int, *, after: str, upto: str, count: int) -> Sequence[RawEntry]: ...  # noqa: D102
    def last_segment(self, partition: int) -> RawEntry | None: ...  # noqa: D102
    def replace_by_segment(self, partition: int, segment: Segment, *, instead_of: str | None) -> None: ...  # noqa: D102


class IncidentBook(Protocol):
    """Where incidents and refused entries are kept. Every method raises TransientError while the database is away."""

    def refused(self, partition: int, entry_ids: Sequence[str]) -> set[str]: ...  # noqa: D102
    def report(self, partition: int, incident: Incident, now: datetime) -> None: ...  # noqa: D102


def keep_house(  # noqa: PLR0913  what it works on, and what it keeps to
    log: KeptLog,
    book: IncidentBook,
    options: UsageOptions,
    *,
    partition: int,
    position: Position,
    now: datetime,
    guard: Guard | None = None,
    borders: Collection[str] = (),
) -> TrimDecision:
    """Compact and trim one partition; safe at any moment, whoever else reads, writes or drains.

    `borders` are the positions at which restore points stand: see `compact_log`.

    Raises:
        TransientError: Redis or the database is away.
    """
    compact_log(log, book, options, partition=partition, position=position, now=now, guard=guard, borders=borders)
    size = LogSize(
        first_id=log.first_id(partition),
        memory_bytes=log.memory_bytes(partition),
        applied_id=position.last_id,
        proven_id=position.proven_id,
    )
    decision = decide_trim(size, cap_bytes=options.log_cap_bytes)
    if decision.incident is not None:
        # Told before it is done: a restore that will not be exact must never come as a surprise.
        book.report(partition, Incident(kind=decision.incident, detail=decision.reason), now)
    if decision.upto is not None:
        log.forget(partition, decision.upto)
    return decision


def compact_log(  # noqa: PLR0913  what it works on, and what it keeps to
    log: KeptLog,
    book: IncidentBook,
    options: UsageOptions,
    *,
    partition: int,
    position: Position,
    now: datetime,
    guard: Guard | None = None,
    borders: Collection[str] = (),
) -> int:
    """Merge old entries into segments; give the number of entries merged.

    No segment reaches across one of the `borders`: a database that is restored from there must find the log as it was.

    What the drain refused is left out; what it counted stays counted, also when the key of its signature has been
    taken out since. That is told, because it rests on the dead letters alone: an entry without one was counted.

    Raises:
        TransientError: Redis or the database is away.
    """
    boundaries = {*borders} if position.proven_id is None else {*borders, position.proven_id}
    newest_ms = int((now - options.compact_after).timestamp() * 1000)
    last = log.last_segment(partition)
    older = decode_segment(*last) if last is not None else None
    check = partial((guard or Guard()).check_entry, wire.usage_stream(partition))
    merged = 0
    after = older.last_id if older is not None else BEGINNING
    while True:
        upto = compaction_end(applied_id=position.last_id, boundaries=boundaries, after=after, not_after_ms=newest_ms)
        raw = log.read_raw(partition, after=after, upto=upto, count=_SEGMENT_ENTRIES)
        if not raw and upto in boundaries and id_order(upto) > id_order(after):
            after = upto  # what lay there was repeated, and was deleted by the drain
            continue
        if not _worth_merging(raw, newest_ms, merged, is_bordered=upto in boundaries):
            return merged
        refused = book.refused(partition, [entry_id for entry_id, _ in raw])
        if unchecked := _unchecked(raw, refused, check):
            book.report(partition, _compacted_unchecked(unchecked), now)  # told before it is done
        segment = compact(raw, refused)
        instead_of = None
        if older is not None and may_join(older, segment, boundaries):
            instead_of, segment = older.last_id, join(older, segment)
        log.replace_by_segment(partition, segment, instead_of=instead_of)
        older, after = segment, segment.last_id
        merged += len(raw)


def _unchecked(
    raw: Sequence[RawEntry], refused: Collection[str], check: Callable[[Mapping[bytes, bytes]], None]
) -> list[str]:
    """Name the entries that were counted and would not be believed today."""
    found = []
    for entry_id, fields in raw:
        try:
            if entry_id not in refused:
                check(fields)
        except SignatureError:
            found.append(entry_id)
    return found


def _compacted_unchecked(entry_ids: Sequence[str]) -> Incident:
    text = (
        f"{len(entry_ids)} entries from {entry_ids[0]} to {entry_ids[-1]} were compacted with their counts although no "
        "key of wire.signing_keys knows their signature any more: no dead letter says that the drain refused them"
    )
    return Incident(kind="signature_unknown", detail=text)


def _worth_merging(raw: Sequence[RawEntry], newest_ms: int, merged: int, *, is_bordered: bool) -> bool:
    # A single entry is as small as it gets; before a border it must make way for what lies behind that.
    if len(raw) < (1 if is_bordered else 2):
        return False
    overdue_ms = newest_ms - int(_COMPACT_EVERY.total_seconds() * 1000)
    return merged > 0 or logged_ms(raw[0][0]) < overdue_ms
