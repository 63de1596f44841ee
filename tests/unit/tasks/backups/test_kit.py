"""The recovery kit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.backups.kit import Kit, UnreadableKitError, compose_kit
from tasks.runtime import BackupOptions, ProfileOptions, VaultOptions

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PASSWORD = "canary-of-the-vault"
KEY = "canary-of-the-bucket"

OPTIONS = BackupOptions(
    directory=Path("/srv/crew/backups"),
    vault=VaultOptions(location="/srv/vault", password_file=Path("/etc/crew/vault-password")),
    second_vault=VaultOptions(
        location="s3:https://objects.example/crew",
        password_file=Path("/etc/crew/second-password"),
        environment={"AWS_SECRET_ACCESS_KEY": KEY},
        is_append_only=True,
    ),
    profiles={"default": ProfileOptions(), "small": ProfileOptions(parts=frozenset({"config"}))},
)


def kit() -> Kit:
    passwords = {"primary": PASSWORD, "second": "another"}
    return compose_kit(OPTIONS, passwords, database="sqlite", tools={"restic": "0.14.0"}, now=NOW)


def test_a_kit_survives_its_file() -> None:
    """What is written is what is read, secrets included."""
    read = Kit.from_json(kit().to_json())
    assert read == kit()
    assert (read.vault("primary").password, read.vault("second").environment) == (
        PASSWORD,
        {"AWS_SECRET_ACCESS_KEY": KEY},
    )


def test_a_kit_says_what_to_type() -> None:
    """A reader with a bare machine finds the packages, the restore and the way without Nightcrew."""
    text = "\n".join(kit().read_me)
    for command in ("apt-get install restic", "chmod 600 kit.json", "nightcrew restore latest --to", "--vault second"):
        assert command in text
    assert "restic -r /srv/vault snapshots" in text
    assert "Mount the disk that holds /srv/vault" in text


def test_instructions_and_errors_keep_the_secrets() -> None:
    """Only the fields for them hold secrets, and none is shown by what people print without thinking."""
    assert not [line for line in kit().read_me if PASSWORD in line or KEY in line]
    assert PASSWORD not in repr(kit())
    assert KEY not in repr(kit())
    broken = kit().to_json().replace('"nightcrew_kit": 1', '"nightcrew_kit": 2')
    with pytest.raises(UnreadableKitError, match="nightcrew_kit") as caught:
        Kit.from_json(broken)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"nightcrew_kit": 1}'])
def test_what_is_no_kit_is_refused(text: str) -> None:
    """Another file is named as such."""
    with pytest.raises(UnreadableKitError, match="no recovery kit"):
        Kit.from_json(text)


def test_a_missing_vault_is_named() -> None:
    """Asking a kit for a vault that it has not says which ones it has."""
    one = compose_kit(
        BackupOptions(directory=OPTIONS.directory, vault=OPTIONS.vault),
        {"primary": PASSWORD},
        database="postgresql",
        tools={},
        now=NOW,
    )
    with pytest.raises(UnreadableKitError, match="no vault 'second', only primary"):
        one.vault("second")
