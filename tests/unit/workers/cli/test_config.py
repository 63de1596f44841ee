"""`nightcrew config` shows and checks the settings."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from nightcrew.signing import SigningKey
from workers.cli.verbs import run
from workers.settings import load_settings

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


def test_redis_acl_makes_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    """The file on standard output has hashes alone; the passwords are told once, beside it."""
    assert run(["config", "redis-acl", "--users", "producer,viewer"]) == 0
    shown = capsys.readouterr()
    passwords = [line.rpartition(": ")[2] for line in shown.err.splitlines()]
    assert len({*passwords}) == 2
    assert [line.split()[1] for line in shown.out.splitlines()] == ["default", "producer", "viewer"]
    for password in passwords:
        assert password not in shown.out
        assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in shown.out


def test_redis_acl_takes_passwords(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From standard input, a line each in the order of the users; never from the arguments."""
    monkeypatch.setattr("sys.stdin", io.StringIO("first-password-canary\nsecond-password-canary\n"))
    assert run(["config", "redis-acl", "--users", "viewer,worker", "--passwords-from-stdin", "--json"]) == 0
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert answer["passwords"] == {}
    assert "canary" not in shown.out + shown.err
    first = next(line for line in answer["acl"].splitlines() if line.startswith("user viewer "))
    assert hashlib.sha256(b"first-password-canary").hexdigest() in first


def test_redis_acl_refuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown users, too few passwords, short ones."""
    assert run(["config", "redis-acl", "--users", "producer,nobody"]) == 2
    for given in ("only-one-password-canary\n", "long-enough-canary\ncanary\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        assert run(["config", "redis-acl", "--users", "producer,worker", "--passwords-from-stdin"]) == 2
    assert "canary" not in capsys.readouterr().err


def test_redis_acl_is_of_the_crews_own_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The channels of its workers carry the number that stands in its address."""
    write_file(tmp_path, '[broker]\nurl = "redis://:canary@host/7"\n')
    assert run(["config", "redis-acl", "--users", "worker", "--data-dir", str(tmp_path)]) == 0
    assert "&/7.celery.pidbox" in capsys.readouterr().out
    assert run(["config", "redis-acl", "--users", "worker", "--database", "2", "--data-dir", str(tmp_path)]) == 0
    assert "&/2.celery.pidbox" in capsys.readouterr().out


def test_new_signing_key_is_one_that_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is a key and nothing else, and the settings take it."""
    assert run(["config", "new-signing-key"]) == 0
    shown = capsys.readouterr()
    key = SigningKey.parse(shown.out)
    assert shown.out == key.reveal() + "\n"
    assert shown.err == ""
    assert load_settings(tmp_path, {"NIGHTCREW_WIRE__SIGNING_KEYS": shown.out}).wire.first_key == key.reveal()
    write_file(tmp_path, f'[wire]\nsigning_keys = ["{key.reveal()}"]\n')
    assert run(["config", "new-signing-key", "--id", key.id, "--data-dir", str(tmp_path)]) == 2


def test_new_signing_keys_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """Also under one name; the name is the one that was asked for."""
    made = []
    for _ in range(2):
        assert run(["config", "new-signing-key", "--id", "autumn", "--json"]) == 0
        made.append(SigningKey.parse(json.loads(capsys.readouterr().out)["signing_key"]))
    assert [key.id for key in made] == ["autumn", "autumn"]
    assert made[0] != made[1]
    assert run(["config", "new-signing-key", "--id", "a:b"]) == 2


def test_new_signing_key_is_kept_nowhere(tmp_path: Path) -> None:
    """Not in a file and not in a line of a log, however loud."""
    argv = [sys.executable, "-X", "dev", "-m", "workers.cli", "config", "new-signing-key"]
    env = {**os.environ, "NIGHTCREW_DATA_DIR": str(tmp_path), "NIGHTCREW_LOG__LEVEL": "debug"}
    done = subprocess.run(argv, capture_output=True, check=True, text=True, env=env, timeout=60)
    secret = done.stdout.strip().partition(":")[2]
    assert secret
    assert secret not in done.stderr
    assert list(tmp_path.iterdir()) == []
