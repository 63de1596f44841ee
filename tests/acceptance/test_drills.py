"""Restore tests as an operator has them: a crew that runs, the command, the page, and a vault that is tampered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups.store.drills.book import list_drills
from tasks.backups.store.keys import write_password
from tests.acceptance import commands
from tests.acceptance.conftest import RunningCrew, running_crew
from tests.support import wait_until
from tests.support.cheap_vaults import make_cheap_vault
from tests.support.restic import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEYS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A crew, its vault, and the settings that say so."""

    crew: RunningCrew
    vault: Path
    settings: dict[str, str]

    def ask(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """Run the command with the settings of the crew."""
        return commands.ask(*arguments, data_dir=self.crew.directory, env=self.settings, code=code)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a crew whose vault is quickly opened: a drill opens it often."""
    vault, password_file = tmp_path / "vault", tmp_path / "keys" / "vault"
    password_file.parent.mkdir(mode=0o700)
    write_password(password_file, PASSWORD)
    make_cheap_vault(vault, PASSWORD)
    settings = {
        "NIGHTCREW_BACKUPS__ENABLED": "true",
        "NIGHTCREW_BACKUPS__VAULT": str(vault),
        "NIGHTCREW_BACKUPS__VAULT_PASSWORD_FILE": str(password_file),
    }
    with running_crew(settings) as crew:
        yield Place(crew=crew, vault=vault, settings=settings)


def flip_a_byte(vault: Path) -> None:
    """Tamper with what a vault holds of the only point in it."""
    pack = max((path for path in (vault / "data").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(content)


def test_a_full_is_proven_and_shown_and_a_tampered_one_is_found(place: Place, tmp_path: Path) -> None:
    """The crew drills its full by itself; the command has it done again, and once more when the vault is damaged."""
    place.crew.app.usage.increment_many([f"key.{number}" for number in range(_KEYS)])
    place.crew.app.usage.flush()
    point = place.ask("backup", "full")["result"]["point"]
    wait_until(lambda: bool(list_drills(place.crew.engine)), timeout_s=60, what="the drill of the full")
    [by_itself] = list_drills(place.crew.engine)
    assert (by_itself.point_id, by_itself.verdict.value) == (point, "pass"), by_itself.reason
    _drill_again(place, point, tmp_path / "page.html")
    flip_a_byte(place.vault)
    failed = place.ask("drill", point, code=1)
    assert (failed["verdict"], failed["point"], failed["mutants"]["total"]) == ("fail", point, 0)
    [listed] = place.ask("backup", "list")["points"]
    assert (listed["id"], listed["state"]) == (point, "damaged")
    status = place.ask("status", code=5)
    fixes = {one["check"]: one["fix"] for one in status["reasons"]}
    assert fixes["drill-failed"]
    assert fixes["restore-points"]
    assert status["backups"]["could_restore_to"] is None


def _drill_again(place: Place, point: str, page: Path) -> None:
    done = place.ask("drill", point[:8], "--report", page)
    assert (done["verdict"], done["point"]) == ("pass", point), done["reason"]
    assert done["run_id"], "it was not the crew that did it"
    assert done["mutants"]["killed"] == done["mutants"]["total"] > 0
    assert page.stat().st_mode & 0o777 == 0o600
    assert point in page.read_text(encoding="utf-8")
    status = place.ask("status")
    shown = status["backups"]
    assert (shown["could_restore_to"]["point"], shown["could_restore_to"]["rto_s"]) == (point, done["rto_s"])
    assert (shown["proven"]["share"], shown["last_drill"]["verdict"], status["reasons"]) == (1.0, "pass", [])
