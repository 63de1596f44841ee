"""Backups from capture to restore, on a real engine, a real database and a real Redis."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from nightcrew._uuid7 import uuid7
from nightcrew.messages import CopyToSecondVault, PruneVault, RunFullBackup, RunIncrementalBackup, VerifyVault
from tasks.backups.manifest import FILE_NAME, Manifest
from tasks.backups.operations import (
    backup_options,
    describe_point,
    hold_point,
    list_copies,
    list_points,
    list_vault,
    make_kit,
    point_to_json,
    restore_from_vault,
    restore_point,
    show_point,
    take_backup,
    vault_from_kit,
    vault_of,
    watch_vault,
)
from tasks.backups.operations.taking import backup_for, order_for
from tasks.backups.store.addresses import address_of
from tasks.backups.store.book import SqlBook
from tasks.backups.tables import PointCopy, StoredPoint
from tasks.errors import PermanentError
from tasks.job import definition_of
from tasks.ledger.filters import Filter
from tasks.ledger.operations import list_runs
from tasks.ledger.retries import PATIENT
from tasks.ledger.tables import JobRun
from tasks.runtime import NoAttempt, ProfileOptions
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import Crew, notes_in
from tests.integration.tasks.backups.killed_worker import STORED
from tests.support import wait_until
from tests.support.processes import start_process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.backups.backup import Taken
    from tasks.backups.storage import Measure
    from tasks.runtime import Runtime
    from tests.support.redis import RedisServer


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    return Crew(sqlite_engine, redis_server.client(), tmp_path, seed)


def test_every_point_of_a_chain_comes_back_as_it_was(crew: Crew) -> None:
    """A full and an increment on it: rows, broker and configuration of each moment."""
    kept = [crew.notes()]
    taken = [crew.full()]
    crew.change_some()
    kept.append(crew.notes())
    crew.config.write_text("[broker]\nport = 1\n")
    taken.append(crew.incremental())
    assert [one["kind"] for one in taken] == ["full", "incremental"], taken
    assert taken[1]["bytes"]["staged"] < taken[0]["bytes"]["staged"] / 3
    for number, notes in enumerate(kept):
        report, to = crew.restore(taken[number]["point"])
        assert notes_in(to) == notes
        assert (report["path"], report["is_equal"]) == ([one["point"] for one in taken[: number + 1]], True)
        assert (to / "quarantine" / "broker.rdb").is_file()
        assert json.loads((to / "restore.json").read_text()) == report
        assert Manifest.from_json((to / FILE_NAME).read_bytes()).point == taken[number]["point"]
    assert (to / "config" / "crew.toml").read_text() == "[broker]\nport = 1\n"
    _, only = crew.restore(taken[0]["point"], only=frozenset({"config"}))
    assert sorted(path.name for path in only.iterdir()) == ["config", FILE_NAME, "restore.json"]
    with pytest.raises(PermanentError, match="is there already"):
        restore_point(crew.runtime, taken[0]["point"], to=only)
    shown = show_point(crew.runtime, taken[1]["point"][:6])
    assert shown.path == [one["point"] for one in taken]
    [newest, _] = crew.points()
    assert point_to_json(newest, list_copies(crew.runtime, [newest])[newest.id])["vaults"] == ["primary"]
    standing = watch_vault(crew.runtime)
    assert standing.measure is not None
    assert standing.measure.points == 2
    assert not [*(crew.options.directory / "staging").iterdir()]


class StolenBook(SqlBook):
    """Loses the run to another worker in the moment in which the outcome would be recorded."""

    def record(self, taken: Taken, measure: Measure, result: Mapping[str, Any]) -> None:
        with begin_write(self._engine) as connection:
            connection.execute(sa.update(JobRun).where(JobRun.id == taken.run_id).values(fence=JobRun.fence + 1))
        super().record(taken, measure, result)


def take_and_lose(message: RunFullBackup, runtime: Runtime) -> dict[str, Any]:
    """Do what the job does, up to its last step."""
    options = backup_options(runtime)
    backup = backup_for(runtime, options, profile=message.profile)
    book = StolenBook(runtime.engine, "primary", runtime.attempt, runtime.clock)
    return replace(backup, book=book).take(order_for(runtime, options, profile=message.profile, kind="full"))


def test_a_run_that_lost_its_lease_leaves_a_point_for_its_next_attempt(crew: Crew) -> None:
    """It records nothing; what it stored is adopted and not doubled; what it left on the disk goes."""
    run_id = str(uuid7())
    definition = replace(definition_of(RunFullBackup.kind), function=take_and_lose)
    assert crew.deliver(RunFullBackup(), run_id, definition).verdict == "lost"
    assert crew.points() == []
    leftover = crew.options.directory / "staging" / "dead.1"
    leftover.mkdir()
    (leftover / "full").write_bytes(b"x" * 100)
    again = take_backup(crew.second_try(run_id, fence=2), profile="default", kind="full")
    assert "capture database" not in again["seconds"], "it has adopted"
    [point], [snapshot] = crew.points(), vault_of(crew.options).vault.list()
    assert (point.id, point.snapshot_id) == (run_id.replace("-", "")[-12:], snapshot.id)
    crew.change_some()
    crew.lose_cache()
    notes = crew.notes()
    following = take_backup(crew.second_try(str(uuid7())), profile="default", kind="incremental")
    assert (following["kind"], following["chain"]) == ("incremental", point.id), following
    assert not leftover.exists()
    _, to = crew.restore(following["point"])
    assert notes_in(to) == notes


def test_a_killed_worker_leaves_a_point_for_its_next_attempt(crew: Crew) -> None:
    """Killed between storing and recording, with its stage still there: nothing is lost, doubled or left."""
    run_id = str(uuid7())
    log = crew.directory / "worker.log"
    argv = [sys.executable, "-m", "tests.integration.tasks.backups.killed_worker"]
    address = address_of(crew.redis)
    worker = start_process([*argv, str(crew.engine.url), address, str(crew.directory), run_id], log=log)
    try:
        wait_until(lambda: STORED in worker.output(), timeout_s=60, what="a stored point")
    finally:
        worker.kill()
    staging = crew.options.directory / "staging"
    assert ([path.name for path in staging.iterdir()], crew.points()) == ([f"{run_id}.1"], [])
    take_backup(crew.second_try(run_id, fence=2), profile="default", kind="full")
    assert not list(staging.iterdir())
    [point], [snapshot] = crew.points(), vault_of(crew.options).vault.list()
    assert (point.id, point.snapshot_id) == (run_id.replace("-", "")[-12:], snapshot.id)
    _, to = crew.restore(point.id)
    assert notes_in(to) == crew.notes()


def test_jobs_that_write_to_a_vault_exclude_each_other() -> None:
    """Whatever touches the first vault has it alone; backups leave the second one to a copy that runs meanwhile."""
    messages = [RunFullBackup(), RunIncrementalBackup(), VerifyVault(), PruneVault(), CopyToSecondVault()]
    for message in messages:
        definition = definition_of(message.kind)
        assert definition.exclusive is not None
        assert "backups:vault:primary" in definition.exclusive(message)
        assert definition.retry is PATIENT


def test_the_vault_alone_is_enough(crew: Crew, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The lost database gets its points back; a bare machine restores with nothing but the kit."""
    crew.full()
    crew.change_some()
    crew.incremental()
    hold_point(crew.runtime, "latest", is_held=True)
    before = {point.id: point for point in crew.points()}
    with begin_write(crew.engine) as connection:
        connection.execute(sa.delete(PointCopy))
        connection.execute(sa.delete(StoredPoint))
    crew.run(VerifyVault(slices=2))
    after = {point.id: point for point in list_points(crew.runtime)}
    for name, point in before.items():
        added = after[name].added_bytes
        assert replace(after[name], added_bytes=0, is_held=False, finished_at=point.finished_at) == replace(
            point, added_bytes=0, is_held=False
        )
        assert added > 0
    notes, kit = crew.notes(), make_kit(crew.runtime)
    for lost in (crew.options.directory, crew.directory / "keys", crew.config):
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    bare = tmp_path / "bare"
    with vault_from_kit(kit, bare, engine="restic") as opened:
        contents = list_vault(opened)
        assert [point.id for point in contents.points] == [point.id for point in sorted_points(after)]
        assert describe_point(opened, contents.points[0]).path == [contents.points[1].id, contents.points[0].id]
        restore_from_vault(opened, "latest", to=bare / "restored", teller=NoAttempt())
    assert notes_in(bare / "restored") == notes
    assert [path.name for path in bare.iterdir()] == ["restored"], "nothing of the password is left"
    told = "".join(capfd.readouterr()) + str(list_runs(crew.runtime, Filter(), limit=10))
    assert kit.vault("primary").password not in told


def test_points_are_copied_and_pruned_by_profile(crew: Crew) -> None:
    """Each profile has its own chains and retention; the second vault has what it keeps, and restores by itself."""
    crew.profiles["small"] = ProfileOptions(parts=frozenset({"config"}))
    first, small, last = crew.full(), crew.incremental("small"), crew.full()
    assert (small["kind"], small["rows"]) == ("full", None)
    copied = crew.run(CopyToSecondVault())["copied"]
    assert set(copied) >= {small["point"], last["point"]}
    done = crew.run(PruneVault())
    assert (done["primary"]["deleted"], done["second"]["deleted"]) == ([first["point"]], [])
    in_vault = {one.tags.point for one in vault_of(crew.options).vault.list()}
    assert in_vault == {small["point"], last["point"]}
    copies = list_copies(crew.runtime, crew.points())
    assert [one.vault for one in copies[last["point"]]] == ["primary", "second"]
    assert all(one.verified_at is not None for one in copies[last["point"]])
    shutil.rmtree(crew.options.vault.location)
    to = crew.directory / "from-second"
    restore_point(crew.runtime, last["point"], to=to, vault="second")
    assert notes_in(to) == crew.notes()


def sorted_points(points: Mapping[str, Any]) -> list[Any]:
    return sorted(points.values(), key=lambda point: point.taken_at, reverse=True)
