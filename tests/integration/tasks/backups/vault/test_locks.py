"""Locks and interruptions: what a process leaves that is killed, and what one leaves that is called off."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from tasks.backups.staging import Limits
from tasks.backups.vaults import VaultLockedError
from tasks.errors import CancelledError
from tests.support.processes import SpawnedProcess, spawned
from tests.support.restic import environment_of, go_on, locks_of, restic_vault, staged, tags_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.backups.staging import Progress
    from tasks.backups.vaults import Snapshot, VaultPlace

SLOW = Limits(nice=0, idle_io=False, upload_kib_s=1_500, download_kib_s=1_500)
"""What is to be called off takes some ten seconds otherwise."""


def put_small(place: VaultPlace, tmp_path: Path, point: str = "00000000000a") -> Snapshot:
    sizes = staged(tmp_path / f"small-{point}", {"manifest.json": point.encode()})
    vault = restic_vault(place)
    return vault.put(tmp_path / f"small-{point}", tags=tags_of(point), sizes=sizes, progress=go_on).snapshot


def large(tmp_path: Path, *, files: int = 16) -> dict[str, int]:
    return staged(tmp_path / "large", {f"part-{number}": os.urandom(1_000_000) for number in range(files)})


@contextmanager
def slow_backup(place: VaultPlace, tmp_path: Path) -> Iterator[SpawnedProcess]:
    """Run a backup of somebody else's that holds its lock."""
    large(tmp_path)
    argv = [shutil.which("restic") or "", "backup", ".", "--force", "--limit-upload", "500"]
    with spawned(argv, env=environment_of(place), cwd=tmp_path / "large") as process:
        wait_until(lambda: locks_of(place), timeout_s=30, what="its lock")
        yield process


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_of_a_dead_process_blocks_nothing_for_long(
    place: VaultPlace, tmp_path: Path, ended_by: signal.Signals
) -> None:
    """Points would go on being stored while none could be deleted; to prepare the vault ends that."""
    kept, let_go = (put_small(place, tmp_path, point) for point in ("00000000000a", "00000000000b"))
    with slow_backup(place, tmp_path) as process:
        process.send(ended_by)
        process.wait(timeout_s=30)
    is_left = bool(locks_of(place))
    assert is_left or ended_by is signal.SIGTERM, "this is the trap; 0.17 and newer hear of SIGTERM"
    vault = restic_vault(place)
    put_small(place, tmp_path, "00000000000c")
    with pytest.raises(VaultLockedError) if is_left else nullcontext():
        vault.forget([let_go.id], progress=go_on)
    vault.prepare()
    assert locks_of(place) == []
    vault.forget([let_go.id], progress=go_on)
    assert let_go.id not in {one.id for one in vault.list()}
    assert kept.id in {one.id for one in vault.list()}
    vault.check(read=(1, 1), progress=go_on)


def test_a_living_process_keeps_its_lock(place: VaultPlace, tmp_path: Path) -> None:
    """To prepare takes away what is dead only; whoever needs the vault for itself is told to wait."""
    small = put_small(place, tmp_path)
    with slow_backup(place, tmp_path) as process:
        vault = restic_vault(place)
        vault.prepare()
        assert process.is_running()
        assert len(locks_of(place)) == 1
        with pytest.raises(VaultLockedError, match="locked"):
            vault.forget([small.id], progress=go_on)
        with pytest.raises(VaultLockedError, match="locked"):
            vault.check(progress=go_on)
        assert [one.id for one in vault.list()] == [small.id]
        process.send(signal.SIGINT)
        process.wait(timeout_s=30)
    vault.prepare()  # restic 0.14 does not always take its lock away when it is interrupted early
    assert locks_of(place) == []


def test_a_restore_does_not_wait_for_the_dead(place: VaultPlace, tmp_path: Path) -> None:
    """A pruner that died on another machine may have locked everybody out, and now of all times somebody restores."""
    small = put_small(place, tmp_path)
    lock = _exclusive_lock_of_the_dead(place, tmp_path)
    assert restic_vault(place).read(small.id, "manifest.json") == b"00000000000a"
    assert lock.exists(), "a reader takes away nobody's lock"


@pytest.mark.parametrize("is_ignored", [False, True], ids=["heeded", "SIGINT ignored by the worker"])
def test_a_put_that_is_called_off_leaves_no_lock(place: VaultPlace, tmp_path: Path, is_ignored: bool) -> None:  # noqa: FBT001
    """It ends at once, and nothing of it is listed. Celery's pool ignores SIGINT, and its children inherit that."""
    sizes = large(tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_ignored else signal.getsignal(signal.SIGINT)
    try:
        vault = restic_vault(place, limits=SLOW)
        with pytest.raises(CancelledError):
            vault.put(tmp_path / "large", tags=tags_of(), sizes=sizes, progress=_calling_off(place, after_bytes=1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert locks_of(place) == []
    assert restic_vault(place).list() == []
    restic_vault(place).put(tmp_path / "large", tags=tags_of(), sizes=sizes, progress=go_on)
    restic_vault(place).check(read=(1, 1), progress=go_on)


def test_a_get_that_is_called_off_leaves_nothing(place: VaultPlace, tmp_path: Path) -> None:
    """Neither a lock nor a file."""
    sizes = large(tmp_path)
    stored = restic_vault(place).put(tmp_path / "large", tags=tags_of(), sizes=sizes, progress=go_on)
    with pytest.raises(CancelledError):
        restic_vault(place, limits=SLOW).get(
            stored.snapshot.id, sizes, tmp_path / "back", progress=_calling_off(place, after_bytes=1)
        )
    assert locks_of(place) == []
    assert not (tmp_path / "back").exists()


def test_a_prune_that_is_called_off_is_finished_by_the_next(place: VaultPlace, tmp_path: Path) -> None:
    """Halfway through repacking: no lock, what is kept is whole, and the space comes back although nothing is new."""
    sizes = large(tmp_path)
    first = restic_vault(place).put(tmp_path / "large", tags=tags_of(), sizes=sizes, progress=go_on).snapshot
    for number in range(0, len(sizes), 2):
        (tmp_path / "large" / f"part-{number}").unlink()
        del sizes[f"part-{number}"]
    vault = restic_vault(place)
    second = vault.put(tmp_path / "large", tags=tags_of("00000000000b"), sizes=sizes, progress=go_on).snapshot
    full = vault.size().stored_bytes
    with pytest.raises(CancelledError, match="prune"):
        restic_vault(place, limits=SLOW).forget([first.id], progress=_calling_off(place, in_phase="prune"))
    assert locks_of(place) == []
    assert [one.id for one in vault.list()] == [second.id]
    vault.check(read=(1, 1), progress=go_on)
    vault.forget([first.id], progress=go_on)
    assert full - vault.size().stored_bytes > 6_000_000
    vault.get(second.id, sizes, tmp_path / "back", progress=go_on)


def _calling_off(place: VaultPlace, *, after_bytes: int = 0, in_phase: str = "") -> Progress:
    """Give a progress that ends the work in its middle, when the engine holds its lock."""

    def call_off(phase: str, done: int, total: int | None = None) -> None:
        if done >= after_bytes and in_phase in phase and locks_of(place):
            msg = f"called off in {phase} at {done} of {total}"
            raise CancelledError(msg)

    return call_off


def _exclusive_lock_of_the_dead(place: VaultPlace, tmp_path: Path) -> Path:
    """Let a check be killed while it holds the vault for itself."""
    sizes = large(tmp_path)
    restic_vault(place).put(tmp_path / "large", tags=tags_of("00000000000d"), sizes=sizes, progress=go_on)
    argv = [shutil.which("restic") or "", "check", "--read-data", "--limit-download", "500"]
    with spawned(argv, env=environment_of(place)) as process:
        wait_until(lambda: locks_of(place), timeout_s=30, what="its lock")
        process.kill()
    (lock,) = locks_of(place)
    return lock
