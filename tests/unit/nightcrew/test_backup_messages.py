"""What the messages of the backups refuse, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from nightcrew.errors import InvalidMessageError
from nightcrew.messages import PruneVault, RunFullBackup, RunIncrementalBackup, VerifyVault


@pytest.mark.parametrize("profile", ["", "Default", "a b", "x" * 33, "../vault", None, 7])
@pytest.mark.parametrize("message", [RunFullBackup, RunIncrementalBackup])
def test_a_profile_is_a_name(message: Any, profile: Any) -> None:
    """It stands in tags, in tables and in the names of files."""
    with pytest.raises(InvalidMessageError, match="profile must be a name in kebab case"):
        message(profile=profile)


def test_a_delta_is_against_the_previous_or_the_full() -> None:
    """There is nothing else that it could be against."""
    assert RunIncrementalBackup(base="full").to_payload() == {"profile": "default", "base": "full"}
    with pytest.raises(InvalidMessageError, match="base must be one of previous, full"):
        RunIncrementalBackup.from_payload({"base": "newest"})


@pytest.mark.parametrize("slices", [-1, 257, True, 1.5, "3"])
def test_slices_are_a_number_that_the_engine_takes(slices: Any) -> None:
    """The engine sorts what it stores by one byte: it takes at most 256 slices."""
    with pytest.raises(InvalidMessageError, match="slices must be a whole number from 0 to 256"):
        VerifyVault(slices=slices)


def test_a_dry_run_is_said_plainly() -> None:
    """`"false"` in a payload must not delete, nor must it be taken for a dry run."""
    with pytest.raises(InvalidMessageError, match="dry_run must be true or false"):
        PruneVault.from_payload({"dry_run": "false"})
