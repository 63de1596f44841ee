"""A new password for what is kept already: a new vault, a copy of every point, and the old vault goes.

These are the steps of "A new password" in ops/backups.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew.messages import CopyToSecondVault, VerifyVault
from tasks.backups.operations import list_vault, vault_of
from tasks.backups.store.keys import make_password_file
from tasks.backups.vaults import VaultPasswordError, VaultPlace
from tasks.runtime import ProfileOptions, RetentionOptions, VaultOptions
from tests.integration.tasks.backups.crew import Crew, notes_in
from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import restic_vault

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tasks.runtime import BackupOptions
    from tests.support.redis import RedisServer

_WEEK = RetentionOptions(daily=7, weekly=4, monthly=0)


@dataclass
class MovingCrew(Crew):
    """A crew whose settings change."""

    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> BackupOptions:
        return replace(super().options, **self.changed)


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> MovingCrew:
    profiles = {"default": ProfileOptions(retention=_WEEK, second_retention=_WEEK)}
    return MovingCrew(sqlite_engine, redis_server.client(), tmp_path, seed, profiles=profiles)


def test_all_points_move_to_a_vault_with_a_new_password(crew: MovingCrew, tmp_path: Path) -> None:
    """They restore from there with the old vault gone, the chain goes on, and the old password opens nothing."""
    old = crew.options.vault
    new = VaultOptions(location=str(tmp_path / "moved"), password_file=tmp_path / "keys" / "moved")
    states = {crew.full()["point"]: crew.notes()}
    crew.change_some()
    states[crew.incremental()["point"]] = crew.notes()

    crew.changed["second_vault"] = new
    assert make_password_file(new.password_file)
    make_cheap_vault(tmp_path / "moved", new.password_file.read_text().strip())
    assert sorted(crew.run(CopyToSecondVault())["copied"]) == sorted(states)
    crew.run(VerifyVault(slices=1))

    crew.changed |= {"vault": new, "second_vault": None}
    (tmp_path / "vault").rename(tmp_path / "put away")
    crew.lose_cache()
    assert {point.id for point in list_vault(vault_of(crew.options)).points} == states.keys()
    crew.change_some()
    result = crew.incremental()
    assert result["kind"] == "incremental"
    states[result["point"]] = crew.notes()
    for point, notes in states.items():
        assert notes_in(crew.restore(point)[1]) == notes
    with pytest.raises(VaultPasswordError):
        restic_vault(_place(new.location, old.password_file)).list()


def _place(location: str, password_file: Path) -> VaultPlace:
    return VaultPlace(name="primary", location=location, password_file=password_file)
