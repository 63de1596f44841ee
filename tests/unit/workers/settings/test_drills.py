"""The settings of drills."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from workers.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_fulls_are_drilled_and_two_years_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    """What the jobs get is what the settings say."""
    as_it_is = load_settings(tmp_path, env={}).backups.options(tmp_path)
    assert (as_it_is.drill_after_full, as_it_is.keep_drills) == (True, timedelta(days=730))
    env = {"NIGHTCREW_BACKUPS__DRILL_AFTER_FULL": "false", "NIGHTCREW_BACKUPS__KEEP_DRILLS": "90"}
    told = load_settings(tmp_path, env=env).backups.options(tmp_path)
    assert (told.drill_after_full, told.keep_drills) == (False, timedelta(days=90))


def test_drills_are_kept_for_a_month_at_least(tmp_path: Path) -> None:
    """The figure of the last thirty days is made of them."""
    with pytest.raises(SettingsError, match="keep_drills"):
        load_settings(tmp_path, env={"NIGHTCREW_BACKUPS__KEEP_DRILLS": "30"})
