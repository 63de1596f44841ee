"""`nightcrew config` shows and checks the settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from workers.cli.verbs import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def write_file(data_dir: Path, text: str) -> None:
    (data_dir / "nightcrew.toml").write_text(text, encoding="utf-8")


def test_show_masks_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values and origins are shown, passwords are not."""
    write_file(tmp_path, '[broker]\nurl = "redis://:canary@host/0"\n')
    assert run(["config", "show", "--origin", "--data-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "redis://:***@host/0" in shown
    assert str(tmp_path / "nightcrew.toml") in shown
    assert "canary" not in shown


def test_show_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has every setting with value and origin."""
    write_file(tmp_path, "[usage]\npartitions = 4\n")
    assert run(["config", "show", "--json", "--data-dir", str(tmp_path)]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["usage.partitions"] == {"value": 4, "origin": str(tmp_path / "nightcrew.toml")}
    assert settings["broker.url"] == {"value": None, "origin": "default"}


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Good settings end with 0, bad ones with 3 and every problem."""
    where = ["--data-dir", str(tmp_path)]
    assert run(["config", "validate", *where]) == 0
    write_file(tmp_path, "[usage]\npartitons = 4\n[log]\nlevl = 'info'\n")
    assert run(["config", "validate", *where]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert run(["config", "validate", "--json", *where]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert len(answer["problems"]) == 2


def test_show_with_bad_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that cannot be read end with 3 and name the file."""
    write_file(tmp_path, "[usage\n")
    assert run(["config", "show", "--data-dir", str(tmp_path)]) == 3
    assert str(tmp_path / "nightcrew.toml") in capsys.readouterr().err
