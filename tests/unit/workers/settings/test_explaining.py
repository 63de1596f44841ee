"""Origins of values, and who can read the secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workers.settings import explain, load_settings, secret_texts, world_readable_secrets

if TYPE_CHECKING:
    from pathlib import Path


def test_every_value_has_an_origin(tmp_path: Path) -> None:
    """Environment, secret, file and default are told apart."""
    file = tmp_path / "nightcrew.toml"
    file.write_text("[ledger]\nmax_attempts = 9\n", encoding="utf-8")
    secret = tmp_path / "secrets" / "nightcrew_database__url"
    secret.parent.mkdir()
    secret.write_text("postgresql://me:canary@host/db", encoding="utf-8")
    env = {"CREDENTIALS_DIRECTORY": str(secret.parent), "NIGHTCREW_LOG__LEVEL": "debug"}
    found = {one.name: one for one in explain(load_settings(tmp_path, env))}
    assert found["data_dir"].origin == "--data-dir"
    assert found["log.level"].origin == "environment NIGHTCREW_LOG__LEVEL"
    assert found["ledger.max_attempts"].origin == str(file)
    assert found["database.url"].origin == f"secret {secret}"
    assert found["database.url"].value == "postgresql+psycopg://me:***@host/db"
    assert found["usage.partitions"].origin == "default"


def test_no_secret_in_any_form(tmp_path: Path) -> None:
    """Neither repr nor explanation shows a password."""
    settings = load_settings(tmp_path, {"NIGHTCREW_BROKER__URL": "redis://:canary@host/0"})
    assert "canary" not in repr(settings) + str(settings) + str(explain(settings)) + settings.model_dump_json()


def test_secrets_that_are_no_passwords_are_hidden_whole(tmp_path: Path) -> None:
    """Of an address that is a secret by its path nothing is shown, also where there are several."""
    env = {
        "NIGHTCREW_SCHEDULE__PING_URL": "https://hc.example/canary-key/{entry}",
        "NIGHTCREW_SCHEDULE__PING_URLS": '{"ledger-reconcile": "https://hc.example/other-canary"}',
    }
    shown = {one.name: one.value for one in explain(load_settings(tmp_path, env))}
    assert shown["schedule.ping_url"] == "***"
    assert shown["schedule.ping_urls"] == "***"


def test_texts_that_logs_must_not_have(tmp_path: Path) -> None:
    """Passwords as they are written and as they are meant, and the keys in addresses that are secret whole."""
    env = {
        "NIGHTCREW_BROKER__URL": "redis://user:broker%2Fcanary@host/0",
        "NIGHTCREW_FLOWER__BROKER_URL": "unix:///run/r.sock?password=flower-canary",
        "NIGHTCREW_DATABASE__URL": "postgresql://me:database-canary@host/db",
        "NIGHTCREW_SCHEDULE__PING_URL": "https://hc.example/ping-canary/{entry}",
    }
    hidden = {"broker%2Fcanary", "broker/canary", "flower-canary", "database-canary", "ping-canary"}
    assert secret_texts(load_settings(tmp_path, env)) == hidden


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o644, True), (0o604, True), (0o640, True)])
def test_readable_file_with_secret(tmp_path: Path, mode: int, exposed: bool) -> None:  # noqa: FBT001
    """A settings file with a password needs mode 600."""
    file = tmp_path / "nightcrew.toml"
    file.write_text('[broker]\nurl = "redis://:canary@host/0"\n', encoding="utf-8")
    file.chmod(mode)
    assert world_readable_secrets(load_settings(tmp_path, {})) == ([file] if exposed else [])


def test_readable_file_without_secret(tmp_path: Path) -> None:
    """A settings file without a password may be read by all."""
    file = tmp_path / "nightcrew.toml"
    file.write_text("[ledger]\nmax_attempts = 9\n", encoding="utf-8")
    file.chmod(0o644)
    assert world_readable_secrets(load_settings(tmp_path, {})) == []


def test_readable_secret(tmp_path: Path) -> None:
    """A file of the secrets directory is looked at too."""
    secret = tmp_path / "secrets" / "nightcrew_broker__url"
    secret.parent.mkdir()
    secret.write_text("redis://:canary@host/0", encoding="utf-8")
    secret.chmod(0o644)
    assert world_readable_secrets(load_settings(tmp_path, {"CREDENTIALS_DIRECTORY": str(secret.parent)})) == [secret]
