"""Drills on a real vault, a real database and a real Redis, from the message to what is written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew._uuid7 import uuid7
from nightcrew.messages import DrillRestore, PruneVault, RunFullBackup
from tasks.backups.drills.records import Drill, Moment, Timing
from tasks.backups.drills.verdicts import Check, MutantResult, Verdict
from tasks.backups.operations import drill_point, list_drills, list_vault, vault_of
from tasks.backups.points import PointState
from tasks.backups.store import points
from tasks.backups.store.drills import book
from tasks.backups.store.drills.book import SqlDrillBook, add_drill
from tasks.backups.store.keys import write_password
from tasks.errors import LeaseLostError
from tasks.job import definition_of
from tasks.ledger.filters import Filter
from tasks.ledger.operations import list_runs
from tasks.ledger.states import State
from tasks.ledger.store import queries
from tasks.runtime import NoAttempt
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import ROWS, Crew, FixedAttempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

    from tasks.ledger.runs import Run
    from tasks.runtime import Runtime
    from tests.support.redis import RedisServer

AGO = timedelta(minutes=5)


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    return Crew(sqlite_engine, redis_server.client(), tmp_path, seed)


def test_a_full_and_an_increment_are_proven(crew: Crew) -> None:
    """Everything is equal, every damaged copy is noticed, and both are proven; the log hears of it."""
    crew.full()
    crew.change_some()
    crew.incremental()
    increment, full = crew.points()
    told: list[Mapping[int, tuple[str, str]]] = []
    runtime = replace(crew.runtime, note_proven=lambda _, positions: told.append(positions))
    for point in (full, increment):
        drill = drill_point(runtime, point.id)
        assert (drill.verdict, drill.point_id) == (Verdict.PASS, point.id), drill.to_json()
        assert [check.name for check in drill.checks if check.differences or check.unable] == []
        assert [mutant.name for mutant in drill.mutants if mutant.survived] == []
        assert drill.timing is not None
        assert drill.timing.rto_s > 0
    assert [point.proven_at is not None for point in crew.points()] == [True, True]
    assert told == [{}, {}]
    assert list((crew.options.directory / "drills").iterdir()) == []


def test_a_full_asks_for_its_drill_and_the_drill_ends_with_its_run(crew: Crew) -> None:
    """The child of the backup's run names the point; its result and the line in the table are one."""
    job_id = str(uuid7())
    crew.deliver(RunFullBackup(), job_id, definition_of(RunFullBackup.kind))
    [point] = crew.points()
    [child] = [run for run in list_runs(crew.runtime, Filter(), limit=9) if run.kind == DrillRestore.kind]
    assert (child.parent_id, child.payload["point"], child.state) == (job_id, point.id, State.QUEUED)
    crew.deliver(DrillRestore(point=point.id), child.id, definition_of(DrillRestore.kind))
    run = queries.by_id(crew.engine, child.id)
    assert run is not None
    [drill] = list_drills(crew.runtime)
    assert (run.state, run.result) == (State.SUCCEEDED, drill.to_summary())
    assert (drill.run_id, drill.verdict, drill.way) == (child.id, Verdict.PASS, "warm")
    [proven] = crew.points()
    assert proven.proven_at == drill.finished_at
    assert drill.mutants
    assert (
        list_drills(crew.runtime, verdict=Verdict.FAIL)
        == list_drills(crew.runtime, since=drill.finished_at + AGO)
        == []
    )
    _forget_after_their_time(crew, drill)


def _forget_after_their_time(crew: Crew, drill: Drill) -> None:
    """The nightly pruning lets go what drills have found longer ago than it is kept."""
    old = replace(drill, id=None, finished_at=drill.finished_at - crew.options.keep_drills)
    add_drill(crew.engine, crew.runtime.attempt, old)
    assert len(list_drills(crew.runtime)) == 2
    crew.run(PruneVault(dry_run=True))
    assert len(list_drills(crew.runtime)) == 2
    crew.run(PruneVault())
    assert list_drills(crew.runtime) == [drill]


def test_what_the_vault_has_lost_fails_the_drill_and_the_point(crew: Crew) -> None:
    """A flipped byte in the vault: a line, a damaged point, a failed run, in that order of importance."""
    crew.full()
    packs = [path for path in (Path(crew.options.vault.location) / "data").rglob("*") if path.is_file()]
    pack = max(packs, key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 1
    pack.write_bytes(content)
    run = _run(crew, DrillRestore())
    assert (run.state, run.attempt) == (State.FAILED, 1)
    [point], [drill] = crew.points(), list_drills(crew.runtime)
    assert (drill.verdict, drill.point_id, drill.timing) == (Verdict.FAIL, point.id, None)
    assert (point.state, point.state_reason, point.proven_at) == (PointState.DAMAGED, drill.reason, None)
    assert str(run.error).startswith(f"DrillFailedError: drill {drill.id} of {point.id} failed, the point is damaged")
    assert list((crew.options.directory / "drills").iterdir()) == []
    assert "none of the 1 restore points can be restored" in drill_point(crew.runtime, None).reason


def test_a_set_that_is_not_what_the_manifest_says_fails_the_drill(crew: Crew) -> None:
    """The restore has nothing to object to: a check finds it."""
    point_id = crew.full()["point"]
    list_vault(vault_of(crew.options))
    [cached] = (crew.options.directory / "manifests" / "primary").glob(f"{point_id}.*")
    text = cached.read_text()
    assert f'"rows": {ROWS}' in text
    cached.write_text(text.replace(f'"rows": {ROWS}', f'"rows": {ROWS + 1}'))
    drill = drill_point(crew.runtime, point_id)
    assert (drill.verdict, drill.mutants) == (Verdict.FAIL, ())
    assert drill.reason.startswith(f"sqlite.content: table notes: rows {ROWS} instead of {ROWS + 1}")
    [point] = crew.points()
    assert (point.state, point.state_reason) == (PointState.DAMAGED, drill.reason)
    cached.write_text(text)
    assert drill_point(crew.runtime, point_id).verdict is Verdict.PASS
    [mended] = crew.points()
    assert (mended.state, mended.state_reason) == (PointState.STORED, "")
    assert mended.proven_at is not None


def test_what_says_nothing_of_the_point_leaves_it_alone(crew: Crew) -> None:
    """No point, no engine, no vault, another password: each is written down, and the point stays what it was."""
    assert _run(crew, DrillRestore()).state is State.FAILED
    [nothing] = list_drills(crew.runtime)
    assert (nothing.verdict, nothing.point_id) == (Verdict.INCONCLUSIVE, None)
    crew.full()
    vault = Path(crew.options.vault.location)
    with_no_engine = replace(crew.runtime, backups=replace(crew.options, engine="/nowhere/restic"))
    assert "restic" in _inconclusive(with_no_engine)
    vault.rename(vault.with_name("away"))
    assert "vault" in _inconclusive(crew.runtime)
    vault.with_name("away").rename(vault)
    password_file = crew.options.vault.password_file
    password = password_file.read_text()
    password_file.write_text("another\n")
    assert "password" in _inconclusive(crew.runtime)
    password_file.unlink()
    assert "password" in _inconclusive(crew.runtime)
    write_password(password_file, password.strip())
    [point] = crew.points()
    vault_of(crew.options).vault.forget([point.snapshot_id], progress=lambda *_: None)
    assert "not in the vault" in _inconclusive(crew.runtime)
    [point] = crew.points()
    assert (point.state, point.proven_at) == (PointState.STORED, None)


def test_a_worker_that_lost_its_run_writes_nothing(crew: Crew) -> None:
    """Neither a line, nor a proof: whoever took the run over does that."""
    crew.full()
    runtime = replace(crew.runtime, attempt=_LostAttempt("run-1"))
    with pytest.raises(LeaseLostError):
        drill_point(runtime, None)
    [point] = crew.points()
    assert (point.proven_at, list_drills(crew.runtime)) == (None, [])


def test_a_point_that_changes_meanwhile_is_neither_proven_nor_condemned(crew: Crew) -> None:
    """Deleted, or found damaged by a check of the vault, while the drill was at it."""
    [point_id] = [crew.full()["point"]]
    told: list[object] = []
    drill_book = SqlDrillBook(crew.engine, NoAttempt(), note_proven=lambda *_: told.append(1))
    [point] = drill_book.points()
    passed = Drill(
        run_id=None,
        way="warm",
        point_id=point_id,
        asked_at=point.taken_at,
        finished_at=point.finished_at,
        verdict=Verdict.PASS,
        reason="all is equal",
    )
    with begin_write(crew.engine) as connection:
        points.mark_damaged(connection, [point_id], reason="pack 1f is missing")
    found = drill_book.record(passed, point)
    assert (found.verdict, told) == (Verdict.INCONCLUSIVE, [])
    assert found.reason.startswith("the point was found damaged meanwhile: pack 1f is missing; the drill said pass")
    with begin_write(crew.engine) as connection:
        points.forget_copies(connection, [point_id], vault="primary")
    for verdict in (Verdict.PASS, Verdict.FAIL):
        found = drill_book.record(replace(passed, verdict=verdict), point)
        assert found.reason.startswith(f"the point was deleted meanwhile; the drill said {verdict.value}")
    assert [drill.verdict for drill in list_drills(crew.runtime, point_id=point_id)] == [Verdict.INCONCLUSIVE] * 3


def test_what_a_drill_found_is_read_back_as_it_was(sqlite_engine: Engine) -> None:
    """Every field of it."""
    check = Check(name="files.crew.toml", artefact="files", examined=12, unit="bytes", differences=("a", "b"))
    drill = Drill(
        run_id="run-1",
        way="cold",
        point_id="aaaaaaaaaaaa",
        profile="hourly",
        kind="differential",
        sequence=1,
        size_bytes=2**40,
        asked_at=datetime(2026, 11, 1, 12, 30, 15, 250_000, tzinfo=UTC),
        finished_at=datetime(2026, 11, 1, 12, 31, tzinfo=UTC),
        verdict=Verdict.FAIL,
        reason="it differs",
        chosen_because="never proven",
        timing=Timing(fetch_s=0.5, apply_s=1.25, validate_s=0.125),
        rpo_s=2.5,
        checks=(check, replace(check, differences=(), unable="no tool")),
        mutants=(
            MutantResult(name="files.flip", artefact="files", noticed_by=("files.crew.toml",)),
            MutantResult(name="files.cut", artefact="files", not_possible="it is empty"),
        ),
        timeline=(Moment(at=datetime(2026, 11, 1, 12, 30, 16, tzinfo=UTC), says="chosen"),),
    )
    added = add_drill(sqlite_engine, NoAttempt(), drill)
    assert added == replace(drill, id=added.id)
    assert book.list_drills(sqlite_engine) == [added]
    assert book.list_drills(sqlite_engine, way="warm") == book.list_drills(sqlite_engine, point_id="b") == []


class _LostAttempt(FixedAttempt):
    """Somebody else has the run."""

    def guard(self, connection: Connection) -> None:  # noqa: ARG002  as the port has it
        raise LeaseLostError("another worker has the run")

    def complete_in(self, connection: Connection, result: Any) -> None:  # noqa: ARG002  as the port has it
        self.guard(connection)


def _run(crew: Crew, message: DrillRestore) -> Run:
    job_id = str(uuid7())
    crew.deliver(message, job_id, definition_of(message.kind))
    run = queries.by_id(crew.engine, job_id)
    assert run is not None
    return run


def _inconclusive(runtime: Runtime) -> str:
    drill = drill_point(runtime, "latest")
    assert (drill.verdict, drill.checks) == (Verdict.INCONCLUSIVE, ()), drill
    assert drill.point_id is not None
    return drill.reason
