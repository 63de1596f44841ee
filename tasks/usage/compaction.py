"""Old stretches of the log, merged: its memory follows distinct keys, not traffic.

Entries that are applied but not yet proven are needed only for bringing a restored database up to date. A stretch of
them becomes one segment with the same counts. A segment can be applied only as a whole, so none reaches across the
offset of a restore point, nor into the last hours, from which any copy of the database may come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.usage.entries import BEGINNING, Group, Reset, id_order
from tasks.usage.merging import Batch, Tally, TimedReset, merge_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tasks.usage.merging import RawEntry

MAX_SEGMENT_ROWS: Final = 200_000
"""Largest segment, in hourly rows: one transaction of a replay, and some 10 MB of JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of the log, merged: every entry from `first_id` to `last_id`."""

    first_id: str
    last_id: str
    batch: Batch

    def to_fields(self) -> dict[str, str]:
        """Give the fields of its stream entry."""
        steps = [_step_to_json(step) for step in self.batch.steps]
        body = {"steps": steps, "sequences": self.batch.sequences, "entries": self.batch.entry_count}
        return {"v": "1", "first": self.first_id, "d": json.dumps(body, ensure_ascii=False, separators=(",", ":"))}


def compact(raw: Sequence[RawEntry], refused: Collection[str] = ()) -> Segment:
    """Merge entries that are applied already into one segment.

    The drain has deleted every duplicate, so each entry counts but those that it `refused`, named by their ids: these
    are dead letters in the database, and are not repeated here.
    """
    first_id, last_id = raw[0][0], raw[-1][0]
    batch = merge_entries([entry for entry in raw if entry[0] not in refused], {}, after=BEGINNING)
    batch.last_id, batch.entry_count = last_id, len(raw)
    return Segment(first_id=first_id, last_id=last_id, batch=batch)


def join(older: Segment, newer: Segment) -> Segment:
    """Make one segment of two neighbours."""
    batch = older.batch
    for step in newer.batch.steps:
        if isinstance(step, Tally) and batch.steps and isinstance(batch.steps[-1], Tally):
            batch.steps[-1].add_all(step)
        else:
            batch.steps.append(step)
    batch.sequences |= newer.batch.sequences
    batch.entry_count += newer.batch.entry_count
    batch.last_id = newer.last_id
    return Segment(first_id=older.first_id, last_id=newer.last_id, batch=batch)


def may_join(older: Segment, newer: Segment, boundaries: Iterable[str]) -> bool:
    """Decide whether two neighbours may become one: not across a restore point, and not without bound."""
    between = (id_order(older.last_id) <= id_order(mark) < id_order(newer.first_id) for mark in boundaries)
    return older.batch.rows + newer.batch.rows <= MAX_SEGMENT_ROWS and not any(between)


def compaction_end(*, applied_id: str, boundaries: Iterable[str], after: str, not_after_ms: int) -> str:
    """Decide up to which entry the next segment, which begins behind `after`, may reach."""
    marks = (mark for mark in boundaries if id_order(mark) > id_order(after))
    ends = [applied_id, f"{not_after_ms}-0", *marks]
    return min(ends, key=id_order)


def decode_segment(last_id: str, fields: Mapping[bytes, bytes]) -> Segment:
    """Read a segment that `Segment.to_fields` wrote."""
    body = json.loads(fields[b"d"])
    batch = Batch(
        last_id=last_id,
        steps=[_step_from_json(step) for step in body["steps"]],
        sequences=body["sequences"],
        entry_count=body["entries"],
    )
    return Segment(first_id=fields[b"first"].decode(), last_id=last_id, batch=batch)


def _step_to_json(step: Tally | TimedReset) -> Any:
    if isinstance(step, TimedReset):
        return {"key": step.reset.key, "context": step.reset.context, "at_ms": step.logged_ms}
    return [[*place, counts] for place, counts in step.hours.items()]


def _step_from_json(step: Any) -> Tally | TimedReset:
    if isinstance(step, dict):
        return TimedReset(Reset(step["key"], step["context"]), step["at_ms"])
    tally = Tally()
    for group in step:
        tally.add(Group(*group))
    return tally
