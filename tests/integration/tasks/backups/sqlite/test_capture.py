"""A capture is of one moment, whatever writers do meanwhile, and has what a point needs."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.captures.sqlite_copying import check_copy, reading
from tasks.backups.store.captures.sqlite_reading import find_differences
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.errors import LeaseLostError
from tests.integration.tasks.backups.sqlite.capturing import (
    ACCOUNTS,
    LEDGER,
    Heard,
    Taken,
    new_database,
    raising,
    rows_of,
    run_script,
    silent,
    take,
    writing,
)

if TYPE_CHECKING:
    from pathlib import Path

_POINTS = 4
_MOST_POINTS = 16

LARGER_PAGES = "PRAGMA page_size = 8192; VACUUM;"


def _restored(*chain: Taken) -> Path:
    to = chain[-1].directory.with_name(f"{chain[-1].directory.name}.restored")
    restore_sqlite([taken.link for taken in chain], to, progress=silent)
    expected = chain[-1].capture.expected
    assert hashlib.sha256(to.read_bytes()).hexdigest() == expected.file_sha256
    assert find_differences(to, expected, taken_at=chain[-1].capture.taken_at, progress=silent) == []
    check_copy(to, lambda: None)
    return to


def test_full_and_incrementals_while_writers_write(tmp_path: Path) -> None:
    """Each of some points in a row comes back with books that balance, and each writer commits during a capture."""
    source = new_database(tmp_path / "live.db", LEDGER)
    with writing(source) as writers:
        chain = [take(source, most_changed_share=0.95)]
        waiting = set(writers)  # a capture is short, and on a busy machine not everybody gets his turn within one
        while len(chain) < _POINTS or (waiting and len(chain) < _MOST_POINTS):
            before = {writer: writer.commits for writer in writers}
            chain.append(take(source, parent=chain[-1], most_changed_share=0.95))
            waiting -= {writer for writer in writers if writer.commits > before[writer]}
        assert not waiting
    assert [taken.capture.is_delta for taken in chain] == [False, *[True] * (len(chain) - 1)]
    assert not any(taken.capture.is_unchanged for taken in chain)
    moves = []
    for length in range(1, len(chain) + 1):
        restored = _restored(*chain[:length])
        assert rows_of(restored, "SELECT sum(balance) FROM accounts") == [(ACCOUNTS * 1000,)]
        moves += rows_of(restored, "SELECT count(*) FROM transfers")[0]
    assert moves == sorted(set(moves))


def test_all_of_it_is_of_one_moment(tmp_path: Path) -> None:
    """A commit in the middle of the copying is not in the copy, and no page is copied twice because of it."""
    source = new_database(tmp_path / "live.db", LEDGER)
    for _ in range(3):
        run_script(source, "INSERT INTO transfers SELECT NULL, account, note FROM transfers")
    told: list[tuple[int, int | None]] = []

    def commit_meanwhile(done: int, total: int | None) -> None:
        told.append((done, total))
        assert len(told) < 500, "it began anew with each commit"
        run_script(source, "UPDATE accounts SET balance = balance + 1; DELETE FROM transfers WHERE id % 1000 = 3")

    taken = take(source, progress=Heard("copying", commit_meanwhile))
    assert len(told) > 1
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == taken.capture.expected.file_bytes
    restored = _restored(taken)
    assert rows_of(restored, "SELECT sum(balance) FROM accounts") == [(ACCOUNTS * 1000,)]
    assert rows_of(restored, "SELECT count(*) FROM transfers") == [(64_000,)]


def test_what_was_committed_before_is_in_it(tmp_path: Path) -> None:
    """Also what still lies in the write-ahead log alone; `taken_at` lies between the two commits."""
    source = new_database(tmp_path / "live.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO t VALUES (42)")
        connection.commit()
        before = datetime.now(UTC)
        connection.execute("INSERT INTO t VALUES (43)")
        taken = take(source)
        connection.commit()
    assert before <= taken.capture.taken_at <= datetime.now(UTC)
    assert rows_of(_restored(taken), "SELECT id FROM t") == [(42,)]


def test_stage_holds_the_members_and_nothing_else(tmp_path: Path) -> None:
    """For this user alone, with the hashes and sizes of the manifest; the copy is gone."""
    source = new_database(tmp_path / "live.db", LEDGER)
    full = take(source)
    run_script(source, "UPDATE accounts SET balance = 1 WHERE id = 3")
    for taken, names in (
        (full, {"database/pages", "database/full.sqlite.zst"}),
        (take(source, parent=full), {"database/pages", "database/delta.pages.zst"}),
    ):
        paths = [path for path in taken.directory.rglob("*") if path.is_file()]
        assert {str(path.relative_to(taken.directory)) for path in paths} == names
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
        for member in taken.capture.members:
            content = (taken.directory / member.name).read_bytes()
            assert (member.part, member.size_bytes) == ("database", len(content))
            assert member.sha256 == hashlib.sha256(content).hexdigest()
        assert taken.capture.tools["sqlite"] == sqlite3.sqlite_version
    assert full.capture.expected.method == "copy"
    assert full.capture.expected.details == {
        "page_bytes": 4096,
        "pages": (full.capture.expected.file_bytes or 0) // 4096,
    }


def test_source_is_left_as_it_was(tmp_path: Path) -> None:
    """Not one byte of it is written, and nothing is left beside it; also without a write-ahead log."""
    for wal in (True, False):
        source = new_database(tmp_path / f"live-{wal}.db", LEDGER, wal=wal)
        before = source.read_bytes()
        take(source)
        assert source.read_bytes() == before
        assert [path.name for path in tmp_path.glob(f"{source.name}?*")] == []


def test_unchanged_database_is_told(tmp_path: Path) -> None:
    """Two copies of one state are the same file; a commit that changes one value is not."""
    source = new_database(tmp_path / "live.db", LEDGER)
    full = take(source)
    same = take(source, parent=full)
    assert same.capture.is_delta
    assert same.capture.is_unchanged
    assert same.capture.expected.changed_share == 0
    _restored(full, same)
    run_script(source, "UPDATE accounts SET balance = 1 WHERE id = 3")
    other = take(source, parent=same)
    assert not other.capture.is_unchanged
    assert 0 < (other.capture.expected.changed_share or 0) < 0.01
    _restored(full, same, other)


CHANGES = {
    "grown": "INSERT INTO transfers SELECT NULL, account, note FROM transfers WHERE id < 2000",
    "shrunk": "DELETE FROM transfers WHERE id > 6000; PRAGMA incremental_vacuum;",
    "another schema": "CREATE TABLE more (a); DROP INDEX transfers_account; ALTER TABLE accounts ADD COLUMN note TEXT",
    "emptied": "DELETE FROM transfers",
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_make_deltas(tmp_path: Path, change: str) -> None:
    """And the delta gives the file back byte by byte."""
    source = new_database(tmp_path / "live.db", f"PRAGMA auto_vacuum = INCREMENTAL; VACUUM; {LEDGER}", wal=False)
    full = take(source)
    run_script(source, CHANGES[change])
    taken = take(source, parent=full, most_changed_share=1.0)
    assert taken.capture.is_delta
    assert taken.capture.promoted_because is None
    smaller = (taken.capture.expected.file_bytes or 0) < (full.capture.expected.file_bytes or 0)
    assert smaller == (change == "shrunk")
    _restored(full, taken)


def test_replaced_and_repacked_databases_become_fulls(tmp_path: Path) -> None:
    """With the reason; each of them restores by itself."""
    source = new_database(tmp_path / "live.db", LEDGER, wal=False)
    full = take(source)
    run_script(source, "DELETE FROM transfers WHERE id % 3 = 0; VACUUM")
    repacked = take(source, parent=full)
    run_script(source, LARGER_PAGES)
    larger = take(source, parent=repacked)
    source.unlink()
    replaced = take(new_database(source, LEDGER, wal=False), parent=repacked)
    for taken, because in (
        (repacked, "replaced or repacked"),
        (larger, "the pages have 8192 bytes now, and had 4096"),
        (replaced, "replaced or repacked"),
    ):
        assert because in (taken.capture.promoted_because or "")
        assert not taken.capture.is_delta
        assert {member.name for member in taken.capture.members} == {"database/pages", "database/full.sqlite.zst"}
        assert not (taken.directory / "database/delta.pages.zst").exists()
        _restored(taken)


def test_differential_rests_on_its_full_alone(tmp_path: Path) -> None:
    """Any point with a list of pages can be the parent."""
    source = new_database(tmp_path / "live.db", LEDGER)
    full = take(source)
    for _ in range(2):
        run_script(source, "UPDATE accounts SET balance = balance + 1 WHERE id = 3")
        taken = take(source, parent=full)
    assert rows_of(_restored(full, taken), "SELECT balance FROM accounts WHERE id = 3") == [(1_002,)]


@pytest.mark.parametrize("phase", ["copying", "checking", "comparing", "compressing", "reading", "hashing"])
def test_each_phase_is_a_checkpoint(tmp_path: Path, phase: str) -> None:
    """What a checkpoint raises passes, from wherever it is raised; the stage is the caller's to delete."""
    source = new_database(tmp_path / "live.db", LEDGER)
    full = take(source) if phase == "comparing" else None
    with pytest.raises(LeaseLostError, match=phase):
        take(source, parent=full, progress=Heard(phase, raising(LeaseLostError(phase))))


def test_long_statements_are_checkpoints_too(tmp_path: Path) -> None:
    """SQLite asks now and then; what is raised passes, and not SQLite's word for it."""
    source = new_database(tmp_path / "live.db", LEDGER, wal=False)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 5:
            raise LeaseLostError("the fifth")

    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with pytest.raises(LeaseLostError, match="the fifth"), reading(source, tick) as connection:
        connection.execute(endless)
    assert len(ticks) == 5


def test_progress_is_in_bytes_of_the_database(tmp_path: Path) -> None:
    """Each phase goes forward, and those that know where they end get there."""
    source = new_database(tmp_path / "live.db", LEDGER)
    told: list[tuple[str, int, int | None]] = []
    taken = take(source, progress=lambda phase, done, total=None: told.append((phase, done, total)))
    phases = {phase: list(steps) for phase, steps in itertools.groupby(told, key=lambda one: one[0])}
    assert list(phases) == ["copying", "checking", "compressing", "reading", "hashing"]
    for phase in ("copying", "compressing"):
        done = [step[1] for step in phases[phase]]
        assert done == sorted(done)
        assert done[-1] == phases[phase][-1][2] == taken.capture.expected.file_bytes
