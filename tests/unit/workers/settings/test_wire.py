"""Settings of the wire: which keys sign, and whether signatures are asked for."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from nightcrew.signing import SigningKey
from workers.settings import SettingsError, explain, load_settings, secret_texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Place = Callable[[Path, str], dict[str, str]]

NEW, OLD = (SigningKey.generate(name).reveal() for name in ("new", "old"))
VARIABLE = "NIGHTCREW_WIRE__SIGNING_KEYS"


def in_environment(_: Path, text: str) -> dict[str, str]:
    return {VARIABLE: text}


def in_secrets_directory(directory: Path, text: str) -> dict[str, str]:
    secret = directory / "secrets" / VARIABLE.lower()
    secret.parent.mkdir()
    secret.write_text(f"{text}\n", encoding="utf-8")
    return {"CREDENTIALS_DIRECTORY": str(secret.parent)}


def in_file(directory: Path, text: str) -> dict[str, str]:
    (directory / "nightcrew.toml").write_text(f"[wire]\nsigning_keys = {text}\n", encoding="utf-8")
    return {}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (in_environment, json.dumps([NEW, OLD])),
        (in_environment, f"{NEW}\n{OLD}"),
        (in_environment, f"{NEW} {OLD}"),
        (in_secrets_directory, json.dumps([NEW, OLD])),
        (in_secrets_directory, f"{NEW}\n{OLD}"),
        (in_secrets_directory, f"{NEW}\r\n\r\n{OLD}\r"),
        (in_file, json.dumps([NEW, OLD])),
        (in_file, f'"""\n{NEW}\n{OLD}\n"""'),
    ],
    ids=itertools.count(),
)
def test_keys_are_read_in_their_order(tmp_path: Path, place: Place, text: str) -> None:
    """As JSON or one to a line, wherever secrets may stand; the first signs, all are believed."""
    wire = load_settings(tmp_path, place(tmp_path, text)).wire
    assert [key.get_secret_value() for key in wire.signing_keys] == [NEW, OLD]
    assert wire.first_key == NEW
    assert repr(wire.guard()) == "Guard(Signer(new, old), requires=True)"


@pytest.mark.parametrize("place", [in_environment, in_secrets_directory])
@pytest.mark.parametrize("text", ["", "[]"])
def test_no_key_signs_nothing(tmp_path: Path, place: Place, text: str) -> None:
    """An empty text takes back what a file says."""
    in_file(tmp_path, json.dumps([NEW]))
    wire = load_settings(tmp_path, place(tmp_path, text)).wire
    assert (wire.signing_keys, wire.first_key, repr(wire.guard())) == ((), None, "Guard(None, requires=False)")


@pytest.mark.parametrize(("text", "requires"), [("", True), ("true", True), ("false", False)])
def test_signatures_are_asked_for_unless_told_otherwise(tmp_path: Path, text: str, *, requires: bool) -> None:
    """With keys; without them it would be asking for what nobody could check."""
    asked = {"NIGHTCREW_WIRE__REQUIRE_SIGNATURES": text}
    assert load_settings(tmp_path, {VARIABLE: NEW, **asked}).wire.guard().requires is requires
    if text == "true":
        with pytest.raises(SettingsError, match="no key to check them with"):
            load_settings(tmp_path, asked)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (NEW.replace(":", " "), "has 0 bytes, at least 32 are needed"),
        (f"a/b{NEW}", "a signing key needs an id"),
        (NEW[:30], "at least 32 are needed"),
        (f"{NEW}!", "not base64url"),
        (f"{NEW}\n{NEW}", "two signing keys have the same id"),
        (json.dumps({"new": NEW}), "wire.signing_keys"),
        (json.dumps([5]), "wire.signing_keys"),
    ],
    ids=itertools.count(),
)
def test_a_bad_key_is_named_and_not_shown(tmp_path: Path, text: str, complaint: str) -> None:
    """The problem says what to do and holds nothing of the key."""
    with pytest.raises(SettingsError, match=complaint) as caught:
        load_settings(tmp_path, {VARIABLE: text})
    assert NEW.partition(":")[2][:8] not in str(caught.value)


def test_keys_are_masked(tmp_path: Path) -> None:
    """Their number shows, nothing else; logs have neither the keys nor their secrets."""
    settings = load_settings(tmp_path, {VARIABLE: f"{NEW}\n{OLD}"})
    [shown] = [one for one in explain(settings) if one.name == "wire.signing_keys"]
    assert (shown.value, shown.is_secret) == ("***, ***", True)
    assert secret_texts(settings) == {part for key in (NEW, OLD) for part in (key, key.partition(":")[2])}
