"""Which switches are told of which entries, and that their addresses stay secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from workers.settings import SettingsError, explain, load_settings

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = "NIGHTCREW_SCHEDULE__PING_URL"
ENTRIES = ("usage-drain", "ledger-reconcile")
SINGLE = "NIGHTCREW_SCHEDULE__PING_URLS"


def targets(data_dir: Path, env: dict[str, str]) -> dict[str, str]:
    found = load_settings(data_dir, env=env).schedule.ping_targets(ENTRIES)
    return {entry: url.get_secret_value() for entry, url in found.items()}


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    """Without an address no entry is watched."""
    assert targets(tmp_path, {}) == {}


def test_single_address_wins_over_the_template(tmp_path: Path) -> None:
    """The template serves all entries but those that have an address of their own, or are left out."""
    assert targets(tmp_path, {TEMPLATE: "https://hc/key/{entry}"}) == {
        "usage-drain": "https://hc/key/usage-drain",
        "ledger-reconcile": "https://hc/key/ledger-reconcile",
    }
    single = json.dumps({"usage-drain": " https://hc/own ", "ledger-reconcile": ""})
    assert targets(tmp_path, {TEMPLATE: "https://hc/key/{entry}", SINGLE: single}) == {"usage-drain": "https://hc/own"}


def test_addresses_stand_in_the_file_as_a_table(tmp_path: Path) -> None:
    """The file needs no JSON."""
    text = '[schedule.ping_urls]\nusage-drain = "https://hc/own"\n'
    (tmp_path / "nightcrew.toml").write_text(text, encoding="utf-8")
    assert targets(tmp_path, {}) == {"usage-drain": "https://hc/own"}


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({SINGLE: '{"usage-drian": "https://hc/canary"}'}, "did you mean usage-drain?"),
        ({SINGLE: '{"zebra": "https://hc/canary"}'}, "there are: backup-hourly, "),
        ({SINGLE: '{"usage-drain": "ftp://hc/canary"}'}, "only https:// and http:// are spoken"),
        ({SINGLE: '{"usage-drain": "https:///canary"}'}, "needs a host"),
        ({SINGLE: '{"usage-drain": "https://hc/canary key"}'}, "plain characters"),
        ({SINGLE: '{"usage-drain": "https://hc:canary/"}'}, "is not a URL"),
        ({SINGLE: '["https://hc/canary"]'}, "should be a valid dictionary"),
        ({SINGLE: "https://hc/canary"}, "should be a valid dictionary"),
        ({TEMPLATE: "https://hc/canary"}, "must have {entry} once"),
        ({TEMPLATE: "unix:///canary/{entry}"}, "only https:// and http:// are spoken"),
    ],
)
def test_refusal_helps_and_tells_no_address(tmp_path: Path, env: dict[str, str], told: str) -> None:
    """What is wrong is said with its setting and without the secret."""
    with pytest.raises(SettingsError) as refused:
        load_settings(tmp_path, env=env)
    assert told in str(refused.value)
    assert "schedule.ping_url" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_address_is_shown_to_nobody(tmp_path: Path) -> None:
    """Neither `config show` nor a repr has it."""
    settings = load_settings(
        tmp_path, env={TEMPLATE: "https://hc/canary/{entry}", SINGLE: '{"usage-drain": "https://canary"}'}
    )
    assert "canary" not in repr([explain(settings), settings, settings.schedule.ping_targets(ENTRIES)])
