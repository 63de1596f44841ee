"""The command on a data directory of the test's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from workers.cli.verbs import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis import RedisServer


class Command:
    """The command, on one data directory."""

    def __init__(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data_dir = data_dir
        self._capsys = capsys
        self.errors = ""

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        answer = self.text(*arguments, "--json", code=code)
        return json.loads(answer) if answer else {}

    def text(self, *arguments: str, code: int = 0) -> str:
        assert run([*arguments, "--data-dir", str(self.data_dir)]) == code
        shown = self._capsys.readouterr()
        self.errors = shown.err
        return shown.out


@pytest.fixture
def nightcrew(
    tmp_path: Path, sqlite_url: str, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Give the command on a fresh database and an empty broker."""
    assert str(tmp_path) in sqlite_url
    (tmp_path / "nightcrew.toml").write_text(f'[broker]\nurl = "{redis_server.url}"\n', encoding="utf-8")
    (tmp_path / "nightcrew.toml").chmod(0o600)
    return Command(tmp_path, capsys)


@pytest.fixture
def nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Give the command on a directory where no crew has ever been."""
    return Command(tmp_path, capsys)
