"""An empty vault of restic for each test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import PASSWORD, place_in

if TYPE_CHECKING:
    from tasks.backups.vaults import VaultPlace


@pytest.fixture
def place(tmp_path: Path) -> VaultPlace:
    """Give the place of an empty vault."""
    found = place_in(tmp_path)
    make_cheap_vault(Path(found.location), PASSWORD)
    return found
