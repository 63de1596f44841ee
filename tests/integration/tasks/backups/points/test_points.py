"""What is written down of the restore points, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError

from tasks.backups.lineage import BrokenLineageError
from tasks.backups.points import LogPosition, PointState
from tasks.backups.store import listing, points
from tasks.backups.store.points import FoundPoint
from tasks.backups.tables import PointCopy, StoredPoint
from tasks.errors import LeaseLostError, PermanentError, TransientError
from tasks.transactions import begin_read, begin_write
from tests.unit.tasks.backups.histories import DAY, HOUR, NOW, chain, delta, full, suspect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from tasks.backups.points import RestorePoint
    from tasks.backups.store.points import Adoption

POSITIONS = {0: LogPosition(epoch="e1", last_id="7-1"), 11: LogPosition(epoch="e2", last_id="9-0")}


def adopt(
    engine: Engine, found: Sequence[RestorePoint], *, vault: str = "primary", run_id: str | None = None
) -> Adoption:
    with begin_write(engine) as connection:
        rows = [FoundPoint(point=point, stored_at=point.finished_at, run_id=run_id) for point in found]
        return points.adopt(connection, rows, vault=vault)


def ids(found: Sequence[RestorePoint]) -> list[str]:
    return [point.id for point in found]


def state_of(engine: Engine, point_id: str) -> tuple[PointState, str]:
    point = listing.by_id(engine, point_id)
    assert point is not None
    return point.state, point.state_reason


def test_a_point_comes_back_as_it_was_written(engine: Engine) -> None:
    """Every field, with microseconds, large numbers and positions of the log."""
    point = replace(
        delta(full("a0"), "a1"),
        taken_at=NOW.replace(microsecond=123_456),
        size_bytes=5 * 10**12,
        added_bytes=3 * 10**10,
        rows=4 * 10**9,
        log_positions=POSITIONS,
        is_unchanged=True,
        is_held=True,
        proven_at=NOW + HOUR,
        predicted_rto_s=12.5,
        state=PointState.SUSPECT,
        state_reason="rows 12",
    )
    assert adopt(engine, [point], run_id="r1").added == ["a1"]
    assert listing.by_id(engine, "a1") == point
    assert listing.by_run(engine, "r1") == point
    assert listing.by_id(engine, "zz") is None
    assert listing.by_run(engine, "zz") is None


def test_a_point_without_a_database_comes_back(engine: Engine) -> None:
    """Rows, run, proof and forecast may be unknown."""
    point = replace(full("a0"), rows=None)
    adopt(engine, [point])
    assert listing.by_id(engine, "a0") == point


def test_a_record_is_part_of_the_transaction_of_the_caller(engine: Engine) -> None:
    """A worker that lost its lease rolls back, and nothing of the point stays."""
    with pytest.raises(LeaseLostError):
        _record_and_lose_the_lease(engine)
    with begin_read(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(StoredPoint)) == 0
        assert connection.scalar(select(func.count()).select_from(PointCopy)) == 0


def _record_and_lose_the_lease(engine: Engine) -> None:
    with begin_write(engine) as connection:
        points.adopt(connection, [FoundPoint(point=full("a0"), stored_at=NOW)], vault="primary")
        raise LeaseLostError


def test_recording_twice_changes_nothing(engine: Engine) -> None:
    """A run that is tried again finds what its first attempt has written."""
    adopt(engine, chain(3))
    again = adopt(engine, chain(3))
    assert (again.added, again.repaired) == ([], {})
    assert ids(listing.newest(engine)) == ["a3", "a2", "a1", "a0"]


def test_what_the_vault_says_otherwise_is_repaired(engine: Engine) -> None:
    """Facts of the manifest are written over; what only people and restores know stays."""
    wrong = replace(full("a0"), chain="b0", sequence=4, rows=1, log_positions=POSITIONS, added_bytes=77)
    adopt(engine, [suspect(wrong)])
    with begin_write(engine) as connection:
        assert points.hold(connection, "a0", is_held=True)
        assert points.mark_proven(connection, "a0", at=NOW)
    assert adopt(engine, [full("a0")], run_id="r1").repaired == {
        "a0": ["chain", "log_positions", "rows", "run_id", "sequence"]
    }
    found = listing.by_id(engine, "a0")
    assert found == replace(suspect(full("a0")), added_bytes=77, is_held=True, proven_at=NOW)


def test_a_damaged_point_is_mended_by_the_vault_it_was_taken_to(engine: Engine) -> None:
    """A whole copy elsewhere says nothing of it."""
    adopt(engine, [full("a0")])
    with begin_write(engine) as connection:
        assert points.mark_damaged(connection, ["a0"], reason="pack 1f3c is missing") == 1
    adopt(engine, [replace(full("a0"), snapshot_id="there")], vault="second")
    assert state_of(engine, "a0") == (PointState.DAMAGED, "pack 1f3c is missing")
    assert adopt(engine, [full("a0")]).repaired == {"a0": ["state", "state_reason"]}
    assert state_of(engine, "a0") == (PointState.STORED, "")


def test_states_go_only_where_they_may(engine: Engine) -> None:
    """Damage is stronger than suspicion, and only a suspect point can be accepted; the counts say what was news."""
    adopt(engine, chain(2))
    with begin_write(engine) as connection:
        assert points.mark_suspect(connection, ["a1", "a2", "zz"], reason="rows 1") == 2
        assert points.mark_damaged(connection, ["a1"], reason="pack 1") == 1
        assert points.mark_damaged(connection, ["a1"], reason="pack 2") == 0
        assert points.mark_suspect(connection, ["a1"], reason="rows 1") == 0
        assert points.accept(connection, ["a0", "a1", "a2"], reason="ada: it moved") == 1
    assert [state_of(engine, point_id) for point_id in ("a0", "a1", "a2")] == [
        (PointState.STORED, ""),
        (PointState.DAMAGED, "pack 1"),
        (PointState.STORED, "ada: it moved"),
    ]
    with begin_write(engine) as connection:
        assert points.mark_mended(connection, ["a0", "a1"]) == 1
    assert state_of(engine, "a1") == (PointState.STORED, "")
    with begin_write(engine) as connection, pytest.raises(ValueError, match="say who"):
        points.accept(connection, ["a0"], reason="")


def test_the_latest_proof_counts(engine: Engine) -> None:
    """An older one, told later, is no news; and a damaged point is not the newest that is proven."""
    adopt(engine, chain(2))
    with begin_write(engine) as connection:
        assert points.mark_proven(connection, "a1", at=NOW)
        assert not points.mark_proven(connection, "a1", at=NOW - HOUR)
        assert not points.mark_proven(connection, "zz", at=NOW)
        assert points.mark_proven(connection, "a2", at=NOW - DAY)
    assert [point.id if (point := listing.newest_proven(engine, profile=name)) else None for name in (None, "zz")] == [
        "a2",
        None,
    ]
    with begin_write(engine) as connection:
        points.mark_damaged(connection, ["a2"], reason="pack 1")
    newest = listing.newest_proven(engine)
    assert newest is not None
    assert (newest.id, newest.proven_at) == ("a1", NOW)


def test_holding_says_whether_there_is_such_a_point(engine: Engine) -> None:
    """A hold is taken away again."""
    adopt(engine, [full("a0")])
    with begin_write(engine) as connection:
        assert points.hold(connection, "a0", is_held=True)
        assert points.hold(connection, "a0", is_held=False)
        assert not points.hold(connection, "zz", is_held=True)
    found = listing.by_id(engine, "a0")
    assert found is not None
    assert not found.is_held


def test_pages_go_on_behind_the_last_point(engine: Engine) -> None:
    """Each point comes once, the newest first, also where many were taken at one moment."""
    same = [full(f"b{number}", taken_at=NOW - HOUR) for number in range(5)]
    adopt(engine, [*chain(3), *same, full("c0", profile="other")])
    seen: list[str] = []
    after: listing.Cursor | None = None
    while page := listing.newest(engine, profile="default", after=after, limit=2):
        assert len(page) <= 2
        seen += ids(page)
        after = listing.Cursor.after(page[-1])
    assert seen == ["a3", "b4", "b3", "b2", "b1", "b0", "a2", "a1", "a0"]
    assert ids(listing.newest(engine, profile="other")) == ["c0"]
    assert len(list(listing.every(engine))) == 10


def test_many_points_are_read_and_written_in_batches(engine: Engine) -> None:
    """More points than a statement takes parameters."""
    many = [full(f"{number:012x}", taken_at=NOW - number * HOUR) for number in range(601)]
    adopt(engine, many)
    assert adopt(engine, many).added == []
    assert ids(list(listing.every(engine, vault="primary"))) == ids(many)
    with begin_write(engine) as connection:
        assert points.note_verified(connection, ids(many), vault="primary", at=NOW) == 601
        assert len(points.forget_copies(connection, ids(many)[1:], vault="primary")) == 600
    assert ids(list(listing.every(engine))) == ids(many)[:1]


def test_points_are_found_by_the_beginning_of_their_id(engine: Engine) -> None:
    """Signs that a pattern knows mean themselves."""
    adopt(engine, [full("aa11"), full("aa22", taken_at=NOW - DAY), full("bb33")])
    assert ids(listing.by_prefix(engine, "aa")) == ["aa11", "aa22"]
    assert ids(listing.by_prefix(engine, "aa", limit=1)) == ["aa11"]
    assert listing.by_prefix(engine, "%") == []
    assert listing.by_prefix(engine, "a_") == []


def test_the_path_to_a_point_is_read_in_order(engine: Engine) -> None:
    """The full comes first; a fork and other chains are left out; what is missing is named."""
    trunk = chain(3)
    adopt(engine, [*trunk, delta(trunk[1], "b2"), full("c0")])
    assert ids(listing.path_to(engine, "a3")) == ["a0", "a1", "a2", "a3"]
    assert ids(listing.path_to(engine, "b2")) == ["a0", "a1", "b2"]
    with begin_write(engine) as connection:
        points.forget_copies(connection, ["a1"], vault="primary")
    with pytest.raises(BrokenLineageError, match="a2 rests on a1, which is not in the vault"):
        listing.path_to(engine, "a3")
    with pytest.raises(BrokenLineageError, match="zz cannot be restored: it is not in the vault"):
        listing.path_to(engine, "zz")


def test_a_point_goes_with_its_last_copy(engine: Engine) -> None:
    """What one vault deletes stays in the list as long as another has it, under the name that it has there."""
    adopt(engine, [full("a0"), full("b0", taken_at=NOW - DAY)])
    adopt(engine, [replace(full("a0"), snapshot_id="there")], vault="second")
    assert listing.snapshots_in(engine, "second") == {"a0": "there"}
    assert [point.snapshot_id for point in listing.newest(engine)] == ["snapshot-a0", "snapshot-b0"]
    assert [point.snapshot_id for point in listing.newest(engine, vault="second")] == ["there"]
    with begin_write(engine) as connection:
        assert points.count_copies(connection, vault="primary") == 2
        assert points.forget_copies(connection, ["a0", "b0", "zz"], vault="primary") == ["b0"]
    assert [point.snapshot_id for point in listing.newest(engine)] == ["there"]
    assert listing.newest(engine, vault="primary") == []
    with begin_write(engine) as connection:
        assert points.forget_copies(connection, ["a0"], vault="second") == ["a0"]
        assert connection.scalar(select(func.count()).select_from(PointCopy)) == 0


def test_a_copy_under_a_new_name_is_not_verified_yet(engine: Engine) -> None:
    """What was verified was the other one; the same name again changes nothing."""
    adopt(engine, [full("a0")])
    with begin_write(engine) as connection:
        assert points.note_verified(connection, ["a0", "zz"], vault="primary", at=NOW) == 1
        assert points.note_verified(connection, ["a0"], vault="primary", at=NOW - HOUR) == 0
        points.note_copy(connection, "a0", vault="primary", snapshot_id="snapshot-a0", stored_at=NOW + HOUR)
    [copy] = listing.copies(engine, ["a0"])["a0"]
    assert (copy.stored_at, copy.verified_at) == (full("a0").finished_at, NOW)
    with begin_write(engine) as connection:
        points.note_copy(connection, "a0", vault="primary", snapshot_id="new", stored_at=NOW + HOUR)
        points.note_copy(connection, "a0", vault="second", snapshot_id="there", stored_at=NOW - DAY)
    first, second = listing.copies(engine, ["a0", "zz"])["a0"]
    assert (first.vault, first.snapshot_id, first.stored_at, first.verified_at) == ("primary", "new", NOW + HOUR, None)
    assert (second.vault, second.snapshot_id, second.verified_at) == ("second", "there", None)


def test_a_faster_worker_is_no_error(engine: Engine) -> None:
    """Another worker may write the same point between the look and the insertion, although the lease is against it."""
    rows = [FoundPoint(point=full("a0"), stored_at=NOW)]
    raced: list[bool] = []

    def overtake(connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith("INSERT INTO RESTORE_POINTS ") and not raced:
            raced.append(True)
            points.adopt(connection, rows, vault="primary")  # type: ignore[arg-type]  # the same transaction: SQLite has one

    with begin_write(engine) as connection:
        event.listen(connection, "before_cursor_execute", overtake)
        points.adopt(connection, rows, vault="primary")
    assert raced
    assert ids(listing.newest(engine)) == ["a0"]


def test_a_run_takes_one_point(engine: Engine) -> None:
    """A second point of the same run is a fault of the caller, and never left out in silence."""
    adopt(engine, [full("a0")], run_id="r1")
    with pytest.raises(IntegrityError):
        adopt(engine, [full("b0")], run_id="r1")


def test_a_missing_table_says_what_to_do(engine: Engine) -> None:
    """A database that was not migrated is told from one that is in the way."""
    with begin_write(engine) as connection:
        connection.execute(text("DROP TABLE restore_point_copies"))
    with pytest.raises(PermanentError, match="pending migration"):
        adopt(engine, [full("a0")])
    with pytest.raises(PermanentError, match="pending migration"):
        listing.copies(engine, ["a0"])


def test_a_locked_database_is_tried_again(sqlite_url: str) -> None:
    """What another writer holds up is no failure of the point."""
    from workers.database import create_engine  # noqa: PLC0415

    patient, hasty = create_engine(sqlite_url), create_engine(sqlite_url, busy_timeout_s=0.05)
    try:
        with begin_write(patient), pytest.raises(TransientError, match="in the way"):
            adopt(hasty, [full("a0")])
        assert adopt(hasty, [full("a0")]).added == ["a0"]
    finally:
        patient.dispose()
        hasty.dispose()
