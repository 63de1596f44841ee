"""Damaged copies of a real vault, and wrong keys: noticed, while the vault itself is left as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.backups.store.drills.key import KeyExaminer
from tasks.backups.store.drills.vault import VaultExaminer
from tasks.backups.store.restic.failures import why_give_up
from tasks.backups.vaults import VaultDamagedError
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills.captured import Chain
from tests.integration.tasks.backups.drills.subjects import restored_set, silent, tried
from tests.support.restic import flip_byte, place_in, restic_vault

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.integration.tasks.backups.drills.subjects import Set
    from tests.support.redis import RedisServer


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    return Crew(sqlite_engine, redis_server.client(), tmp_path, seed)


@pytest.fixture
def point(crew: Crew) -> Set:
    """Give a full in a vault that has another one, restored."""
    crew.full()
    crew.change_some()
    return restored_set(crew, crew.full()["point"])


def contents(vault: Path) -> dict[str, tuple[int, int, int]]:
    """Say of each file when it was written, how long it is and how many names it has."""
    found = {path: path.stat() for path in vault.rglob("*") if path.is_file()}
    return {str(path): (one.st_mtime_ns, one.st_size, one.st_nlink) for path, one in found.items()}


def test_damage_to_a_copy_is_noticed_and_the_vault_is_untouched(crew: Crew, point: Set) -> None:
    """Although most of the packs are not of the point: what is damaged is a piece that it needs."""
    vault = Path(crew.options.vault.location)
    before = contents(vault)
    examiners = (
        VaultExaminer(vault=point.opened.vault, program="restic"),
        KeyExaminer(place=point.opened.vault.place, program="restic"),
    )
    results = [one for examiner in examiners for one in tried(examiner, point.subject)]
    assert {one.name: tuple(one.noticed_by) for one in results} == {
        "vault.flip-a-bit-of-a-pack": ("vault.data",),
        "vault.flip-a-bit-of-the-manifest": ("vault.data",),
        "vault.truncate-a-pack": ("vault.data",),
        "vault.lose-a-pack": ("vault.data",),
        "vault.lose-the-index": ("vault.data",),
        "vault.lose-the-snapshot": ("vault.data",),
        "key.another-password": ("key.refused",),
        "key.one-bit-off": ("key.refused",),
    }
    assert contents(vault) == before
    assert [*point.subject.scratch.iterdir()] == []


def test_a_copy_that_is_bad_before_it_is_damaged_proves_nothing(crew: Crew, point: Set) -> None:
    """It is told as such, and its mutants do not count as noticed; so it is with keys, where the right one is wrong."""
    for pack in (Path(crew.options.vault.location) / "data").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 100_000:
            pack.chmod(0o600)
            flip_byte(pack)
    [mutant, *_] = VaultExaminer(vault=point.opened.vault, program="restic").mutants(point.subject, silent)
    [check] = mutant.trial()
    assert (check.outcome, check.differences) == ("unable", ())
    assert "the undamaged copy of the vault does not give" in check.unable
    wrong = crew.directory / "wrong"
    wrong.write_text("not the password\n")
    wrong.chmod(0o600)
    place = replace(point.opened.vault.place, password_file=wrong)
    [check] = KeyExaminer(place=place, program="restic").mutants(point.subject, silent)[0].trial()
    assert check.outcome == "unable"


def test_of_a_copy_nothing_is_tried_again() -> None:
    """Nobody else touches it, so what cannot be read once is damaged; elsewhere the engine goes on trying."""
    said = "Load(<data/0123456789>, 10, 0) returned error, retrying after 1.5s: ReadFull: unexpected EOF\n"
    assert why_give_up(said, tries_again=False) == (
        VaultDamagedError,
        "a copy on this disk cannot be read: ReadFull: unexpected EOF",
    )
    assert why_give_up(said) is None
    assert why_give_up("", tries_again=False) is None


def test_what_cannot_be_copied_is_told_with_its_reason(tmp_path: Path) -> None:
    """A place that is no directory, a file that is too large, files that were not kept."""
    chain = Chain(tmp_path)
    chain.do("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
    chain.take()
    subject = chain.subject()
    here = place_in(tmp_path / "vaults", location=str(tmp_path))
    elsewhere = place_in(tmp_path / "vaults", location="s3:https://localhost/bucket")
    for place, most_bytes, links, reason in (
        (elsewhere, 1 << 30, subject.links, "the vault is no directory of this machine"),
        (here, 10, subject.links, "and up to 10 B are copied"),
        (here, 1 << 30, (), "no file of the point was kept"),
    ):
        examiner = VaultExaminer(vault=restic_vault(place), program="restic", most_bytes=most_bytes)
        results = tried(examiner, replace(subject, links=links))
        assert len(results) == 6
        assert all(reason in one.not_possible for one in results), results
