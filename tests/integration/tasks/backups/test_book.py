"""What is written down of a vault, on each kind of database: all or nothing, and only by who holds the run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups.adoption import Found
from tasks.backups.backup import Taken
from tasks.backups.manifest import Manifest
from tasks.backups.points import PointState, RestorePoint
from tasks.backups.storage import Check, Measure
from tasks.backups.store import listing, points, watching
from tasks.backups.store.book import SqlBook, SqlSecondBook
from tasks.backups.vaults import Snapshot, Tags
from tasks.errors import LeaseLostError, TransientError
from tasks.runtime import NoAttempt
from tasks.transactions import begin_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class LostAttempt(NoAttempt):
    """A hold that another worker has taken over."""

    def guard(self, connection: Connection) -> None:
        del connection
        raise LeaseLostError

    def complete_in(self, connection: Connection, result: Any) -> None:
        del connection, result
        raise LeaseLostError


def book_of(engine: Engine, *, is_lost: bool = False) -> SqlBook:
    return SqlBook(engine, "primary", LostAttempt() if is_lost else NoAttempt(), lambda: NOW)


def point(number: int) -> RestorePoint:
    name = f"{number:012x}"
    return RestorePoint(
        id=name,
        profile="default",
        kind="full",
        chain=name,
        sequence=0,
        parent_id=None,
        reason="asked for",
        taken_at=NOW + timedelta(minutes=number),
        finished_at=NOW + timedelta(minutes=number, seconds=30),
        size_bytes=3,
        staged_bytes=2,
        added_bytes=1,
        rows=7,
        snapshot_id=f"{number:064x}",
    )


def found(number: int, snapshot_id: str | None = None) -> Found:
    one = replace(point(number), snapshot_id=snapshot_id or f"{number:064x}")
    manifest = Manifest(
        point=one.id,
        run=f"run-{number}",
        profile="default",
        kind="full",
        chain=one.id,
        sequence=0,
        parent=None,
        reason="",
        taken_at=NOW,
        began_at=NOW,
        tools={},
        members=(),
        size_bytes=3,
    )
    tags = Tags(point=one.id, run=manifest.run, profile="default", kind="full", chain=one.id, sequence=0)
    return Found(point=one, manifest=manifest, snapshot=Snapshot(id=one.snapshot_id, tags=tags, stored_at=NOW))


MEASURE = Measure(measured_at=NOW, points=1, stored_bytes=9, staged_bytes=2, size_bytes=3, free_bytes=None)
CHECK = Check(checked_at=NOW, slice=1, slices=3, is_sound=True)


def test_a_recorded_point_is_read_back_as_it_was(engine: Engine) -> None:
    """With its vault, verified there, and the size that the vault has since."""
    book = book_of(engine)
    book.record(Taken(point=point(1), run_id="run-1"), MEASURE, {})
    book.record(Taken(point=point(2), run_id="run-2"), MEASURE, {})
    assert list(book.points()) == [point(2), point(1)]
    [copy] = listing.copies(engine, [point(1).id])[point(1).id]
    assert (copy.vault, copy.snapshot_id, copy.verified_at) == ("primary", point(1).snapshot_id, NOW)
    assert watching.measures(engine, "primary", since=NOW) == [MEASURE, MEASURE]
    assert listing.by_run(engine, "run-1") == point(1)


WRITES: list[Callable[[SqlBook], None]] = [
    lambda book: book.record(Taken(point=point(2), run_id="run-2"), MEASURE, {}),
    lambda book: book.adopt(found(2)),
    lambda book: book.mark_damaged(point(1).id, "gone"),
    lambda book: book.note_check(CHECK),
    lambda book: book.delete([point(1).id]),
    lambda book: book.note_copy(point(1).id, "another"),
]


@pytest.mark.parametrize("write", WRITES)
def test_who_lost_the_run_writes_nothing(engine: Engine, write: Callable[[SqlBook], None]) -> None:
    """Each transaction ends with a look at the hold, and nothing of it stays without."""
    book_of(engine).adopt(found(1))
    with pytest.raises(LeaseLostError):
        write(book_of(engine, is_lost=True))
    assert list(book_of(engine).points()) == [point(1)]
    assert list(book_of(engine).checks()) == []
    assert watching.measures(engine, "primary", since=NOW) == []


def test_a_point_with_another_name_in_the_vault_keeps_what_people_know(engine: Engine) -> None:
    """Held stays held, proven stays proven; one that was lost is there again."""
    book = book_of(engine)
    book.adopt(found(1))
    with begin_write(engine) as connection:
        points.hold(connection, point(1).id, is_held=True)
        points.mark_proven(connection, point(1).id, at=NOW)
    book.mark_damaged(point(1).id, "vanished")
    book.adopt(found(1, snapshot_id="f" * 64))
    [again] = book.points()
    assert (again.snapshot_id, again.is_held, again.proven_at, again.state) == (
        "f" * 64,
        True,
        NOW,
        PointState.STORED,
    )


def test_a_point_that_was_held_meanwhile_is_not_deleted(engine: Engine) -> None:
    """Nor are the others: the retention decides again."""
    book = book_of(engine)
    book.adopt(found(1))
    book.adopt(found(2))
    with begin_write(engine) as connection:
        points.hold(connection, point(1).id, is_held=True)
    with pytest.raises(TransientError, match=f"{point(1).id} is held"):
        book.delete([point(1).id, point(2).id])
    assert len(book.points()) == 2


def test_two_vaults_do_not_speak_for_each_other(engine: Engine) -> None:
    """What one has lost the other may have whole; a point goes from the list when no vault has it."""
    first, second = book_of(engine), SqlSecondBook(engine, "second", NoAttempt(), lambda: NOW)
    first.adopt(found(1))
    second.note_copy(point(1).id, "copy")
    first.mark_damaged(point(1).id, "gone")
    assert [(one.state, one.snapshot_id) for one in second.points()] == [(PointState.STORED, "copy")]
    first.delete([point(1).id])
    assert (len(first.points()), len(second.points())) == (0, 1)
    second.mark_damaged(point(1).id, "gone here as well")
    assert listing.by_id(engine, point(1).id) is None
