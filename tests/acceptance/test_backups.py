"""Backups as an operator has them: a crew that counts at full speed, the command, and a bare machine afterwards."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.acceptance import commands
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.conftest import RunningCrew

SETTINGS = {"NIGHTCREW_BACKUPS__ENABLED": "true"}

_KEYS = 8_000


@contextmanager
def counting(crew: RunningCrew) -> Iterator[None]:
    """Let an app count without a pause during the block."""
    is_over = threading.Event()

    def count() -> None:
        while not is_over.is_set():
            crew.app.usage.increment_many([f"busy.{number}" for number in range(20)])

    app = threading.Thread(target=count)
    app.start()
    try:
        yield
    finally:
        is_over.set()
        app.join()


def ask(*arguments: str | Path, data_dir: Path) -> dict[str, Any]:
    """Run the command with the settings of the crew."""
    return commands.ask(*arguments, data_dir=data_dir, env=SETTINGS)


def fill(crew: RunningCrew) -> None:
    """Count enough different keys that a night's worth is a small part of the database."""
    crew.app.usage.increment_many([f"key.{number}" for number in range(_KEYS)])
    crew.app.usage.flush()
    wait_until(lambda: total_of(crew.directory / "nightcrew.db") >= _KEYS, timeout_s=60, what="the counts")


def total_of(database: Path) -> int:
    """Add up the counts of a database."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT coalesce(sum(total), 0) FROM usage_counts").fetchone()[0])


def rows_in(database: Path, tables: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Count the rows of each table that a manifest names."""
    with sqlite3.connect(database) as connection:
        return [
            (one["name"], connection.execute(f'SELECT count(*) FROM "{one["name"]}"').fetchone()[0])  # noqa: S608  ours
            for one in tables
        ]


def assert_equal(restored: Path, shown: dict[str, Any]) -> None:
    """Compare a restored directory with what was written down when the point was taken."""
    database, manifest = restored / "database" / "nightcrew.db", shown["manifest"]
    content = database.read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["database"]["file_sha256"]
    tables = manifest["database"]["tables"]
    assert rows_in(database, tables) == [(one["name"], one["rows"]) for one in tables]
    assert (restored / "quarantine" / "broker.rdb").is_file()


def test_backups_restore_while_the_crew_counts(crew: RunningCrew, tmp_path: Path) -> None:
    """A full and an incremental point, both taken while an app counts at full speed, both restored and equal."""
    fill(crew)
    with counting(crew):
        full = ask("backup", "full", data_dir=crew.directory)["result"]
        incremental = ask("backup", "incremental", data_dir=crew.directory)["result"]
    assert (full["kind"], incremental["kind"]) == ("full", "incremental"), incremental["reason"]
    assert (incremental["chain"], incremental["sequence"]) == (full["point"], 1)
    assert incremental["bytes"]["staged"] < full["bytes"]["staged"]
    for taken in (full, incremental):
        to = tmp_path / taken["point"]
        report = ask("restore", taken["point"], "--to", to, data_dir=crew.directory)
        assert report["is_equal"] is True
        assert_equal(to, ask("backup", "show", taken["point"], data_dir=crew.directory))
    older, newer = (total_of(tmp_path / taken["point"] / "database" / "nightcrew.db") for taken in (full, incremental))
    assert _KEYS <= older < newer
    listed = ask("backup", "list", data_dir=crew.directory)
    assert [point["id"] for point in listed["points"]] == [incremental["point"], full["point"]]
    assert [vault["is_sound"] for vault in listed["vaults"]] == [True]
    from_vault = ask("backup", "list", "--from-vault", data_dir=crew.directory)
    assert [point["id"] for point in from_vault["points"]] == [incremental["point"], full["point"]]
    assert ask("backup", "prune", "--dry-run", data_dir=crew.directory)["result"]["primary"]["deleted"] == []
    assert ask("backup", "verify", "--slices", "1", data_dir=crew.directory)["state"] == "succeeded"


def test_a_bare_machine_restores_from_kit_and_vault(crew: RunningCrew, tmp_path: Path) -> None:
    """The crew's directory is gone: the kit, the vault and this project give everything back."""
    taken = ask("backup", "full", data_dir=crew.directory)["result"]
    shown = ask("backup", "show", taken["point"], data_dir=crew.directory)
    kit, vault, bare = tmp_path / "kit.json", tmp_path / "disk", tmp_path / "bare"
    ask("backup", "kit", "--to", kit, data_dir=crew.directory)
    assert kit.stat().st_mode & 0o777 == 0o600
    shutil.copytree(crew.directory / "vault", vault)
    text = kit.read_text(encoding="utf-8").replace(str(crew.directory / "vault"), str(vault))
    assert str(crew.directory) not in text, "the kit leads to something that burnt down"
    kit.write_text(text, encoding="utf-8")
    listed = ask("backup", "list", "--from-vault", "--kit", kit, data_dir=bare)
    assert taken["point"] in {point["id"] for point in listed["points"]}
    to = tmp_path / "restored"
    ask("restore", "latest", "--to", to, "--kit", kit, data_dir=bare)
    assert_equal(to, shown)
    assert not bare.exists(), "a restore needs no crew, and makes none"


def test_a_restore_touches_nothing_that_is_there(crew: RunningCrew, tmp_path: Path) -> None:
    """A directory that exists is refused before anything is fetched; so is a point that nobody knows."""
    there = tmp_path / "there"
    there.mkdir()
    refused = commands.run_nightcrew("restore", "latest", "--to", there, data_dir=crew.directory)
    assert (refused.code, refused.output, list(there.iterdir())) == (1, "", [])
    assert "is there already" in refused.errors
    unknown = commands.run_nightcrew("restore", "zz", "--to", tmp_path / "new", data_dir=crew.directory)
    assert unknown.code == 1
    assert "is no restore point" in unknown.errors
    assert not (tmp_path / "new").exists()
