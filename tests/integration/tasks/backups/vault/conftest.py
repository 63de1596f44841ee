"""An empty vault of restic, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.restic import place_in, restic_vault

if TYPE_CHECKING:
    from tasks.backups.vaults import VaultPlace


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = place_in(tmp_path_factory.mktemp("vault"))
    restic_vault(place).prepare()
    return Path(place.location)


@pytest.fixture
def place(_template: Path, tmp_path: Path) -> VaultPlace:
    """Give the place of an empty vault."""
    found = place_in(tmp_path)
    shutil.copytree(_template, found.location)
    return found
