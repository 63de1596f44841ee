"""Two crews that were given one vault: each has its own points in it, and leaves the other's alone."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from nightcrew._uuid7 import uuid7
from nightcrew.messages import PruneVault, VerifyVault
from tasks.backups.operations import list_vault, make_kit, take_backup, vault_from_kit, vault_of
from tasks.backups.store.keys import PasswordFileError
from tests.integration.tasks.backups.crew import Crew, notes_in
from tests.support.databases import migrate_database, opened_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.runtime import BackupOptions
    from tests.support.redis import RedisServer


@dataclass
class NamedCrew(Crew):
    """A crew that has a name."""

    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> BackupOptions:
        return replace(super().options, crew_file=self.directory / "keys" / "crew", **self.changed)

    def in_vault(self) -> set[str]:
        return {one.tags.point for one in vault_of(self.options).vault.list()}


@pytest.fixture
def crews(redis_server: RedisServer, tmp_path: Path, seed: int) -> Iterator[tuple[NamedCrew, NamedCrew]]:
    """Give two crews with databases of their own; the second has been given the vault of the first."""
    with ExitStack() as stack:
        made = []
        for number in range(2):
            directory = tmp_path / f"crew-{number}"
            directory.mkdir()
            url = f"sqlite:///{directory / 'nightcrew.db'}"
            migrate_database(url)
            engine = stack.enter_context(opened_engine(url))
            made.append(NamedCrew(engine, redis_server.client(), directory, seed + number))
        first, second = made
        second.changed["vault"] = first.options.vault
        yield first, second


def test_two_crews_in_one_vault_do_not_touch_each_other(crews: tuple[NamedCrew, NamedCrew]) -> None:
    """No parent, no `latest` and no point to delete is the other's; each restores what it took, also by its kit."""
    first, second = crews
    old = first.full()["point"]
    taken = second.incremental()
    assert (taken["kind"], taken["chain"]) == ("full", taken["point"]), "it has no parent of its own yet"
    assert [point.id for point in second.points()] == [taken["point"]]
    kept = first.full()["point"]
    for message in (VerifyVault(slices=0), PruneVault()):
        second.run(message)
    assert first.in_vault() == {old, kept}
    assert first.run(PruneVault())["primary"]["deleted"] == [old]
    assert (first.in_vault(), second.in_vault()) == ({kept}, {taken["point"]})
    assert {point.state.value for crew in crews for point in crew.points()} == {"stored"}
    for crew in crews:
        assert notes_in(crew.restore("latest")[1]) == crew.notes()
        with vault_from_kit(make_kit(crew.runtime), crew.directory / "bare", engine="restic") as opened:
            assert {point.id for point in list_vault(opened).points} == crew.in_vault()


def test_a_crew_that_has_lost_its_name_is_told_where_it_is(crews: tuple[NamedCrew, NamedCrew]) -> None:
    """Under a new one all of its points would be another's: it takes the name from the kit, and goes on."""
    crew, _ = crews
    crew.full()
    crew_file, kit = crew.options.crew_file, make_kit(crew.runtime)
    assert crew_file is not None
    crew_file.unlink()
    with pytest.raises(PasswordFileError, match="recovery kit"):
        take_backup(crew.second_try(str(uuid7())), profile="default", kind="full")
    assert kit.crew is not None
    crew_file.write_text(f"{kit.crew}\n")
    crew.change_some()
    assert crew.incremental()["kind"] == "incremental"
