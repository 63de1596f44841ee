"""Each vault, made once and copied for each test: to make one costs half a second of key derivation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.vault import DirectoryVault
from tests.support.restic import place_in, restic_vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.backups.vaults import Vault, VaultPlace

KEEPERS: dict[str, Callable[[VaultPlace], Vault]] = {"directory": DirectoryVault, "restic": restic_vault}


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """One kind of vault, and the place of an empty one."""

    open: Callable[[VaultPlace], Vault]
    directory: Path
    place: VaultPlace

    @property
    def vault(self) -> Vault:
        return self.open(self.place)


@pytest.fixture(scope="session", params=sorted(KEEPERS))
def _empty_vault(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    place = place_in(directory)
    KEEPERS[request.param](place).prepare()
    return request.param, Path(place.location)


@pytest.fixture
def keeper(_empty_vault: tuple[str, Path], tmp_path: Path) -> Keeper:
    """Give an empty vault of each kind."""
    kind, template = _empty_vault
    place = place_in(tmp_path)
    shutil.copytree(template, place.location)
    return Keeper(open=KEEPERS[kind], directory=tmp_path, place=place)
