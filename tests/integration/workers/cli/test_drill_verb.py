"""`nightcrew drill` where no crew runs, `status` and `backup` on what it has found, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.backups.store import points
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import Crew
from tests.integration.workers.cli.conftest import Command

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.support.redis import RedisServer

OTHERS = 0o077


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    """Give the crew in the command's directory, which does not run and has one point."""
    made = Crew(sqlite_engine, redis_server.client(), tmp_path, seed)
    made.full()
    return made


@pytest.fixture
def command(tmp_path: Path, crew: Crew, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Give the command with the settings of that crew."""
    (tmp_path / "keys" / "crew").write_text("nightcrew\n", encoding="ascii")  # by which its points are known
    (tmp_path / "keys" / "crew").chmod(0o600)
    second = crew.options.second_vault
    assert second is not None
    monkeypatch.setenv("NIGHTCREW_BACKUPS__ENABLED", "true")
    monkeypatch.setenv("NIGHTCREW_BACKUPS__SECOND_VAULT", second.location)
    monkeypatch.setenv("NIGHTCREW_BACKUPS__SECOND_VAULT_PASSWORD_FILE", str(second.password_file))
    return Command(tmp_path, capsys)


def largest_pack(crew: Crew) -> Path:
    packs = [path for path in (Path(crew.options.vault.location) / "data").rglob("*") if path.is_file()]
    return max(packs, key=lambda path: path.stat().st_size)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)


def test_a_drill_here_passes_and_shows_everywhere(command: Command, crew: Crew, tmp_path: Path) -> None:
    """All mutants rejected; the proof stands in status, list, show and the page, and the point can be drilled again."""
    page = tmp_path / "page.html"
    page.write_text("an older one", encoding="utf-8")
    page.chmod(0o644)
    done = command("drill", "--report", str(page))
    [point] = crew.points()
    assert (done["point"], done["verdict"], done["way"], done["run_id"]) == (point.id, "pass", "warm", None)
    assert done["mutants"]["killed"] == done["mutants"]["total"] > 0
    assert done["mutants"]["survivors"] == []
    assert done["rto_s"] == pytest.approx(sum(done["seconds"].values()), abs=0.01)
    assert {check["outcome"] for check in done["checks"]} <= {"equal", "nothing to compare"}
    assert (done["file"], page.stat().st_mode & OTHERS) == (str(page), 0)
    assert point.id in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.glob(".nightcrew-*")] == []
    _assert_shown(command, done)


def _assert_shown(command: Command, done: dict[str, Any]) -> None:
    status = command("status", code=4)["backups"]  # no crew runs
    assert (status["proven"]["share"], status["could_restore_to"]["point"]) == (1.0, done["point"])
    assert (status["could_restore_to"]["rto_s"], status["could_restore_to"]["rto_is"]) == (done["rto_s"], "measured")
    assert (status["last_drill"]["id"], status["last_drill"]["verdict"]) == (done["id"], "pass")
    text = command.text("status", code=4)
    assert "proven   100 % of 1 point in the last 30 days; you could restore to " in text
    listed = command("backup", "list")
    assert listed["proven"] == status["proven"]
    assert listed["points"][0]["proven_at"] is not None
    assert [one["id"] for one in command("backup", "show", done["point"])["drills"]] == [done["id"]]
    past = command("drill", "--list")
    assert [one["id"] for one in past["drills"]] == [done["id"]]
    assert past["times"][0]["total"]["p50_s"] == done["rto_s"]
    said = command.text("drill", "--list")
    assert done["point"] in said
    assert "100 % of 1 point" in said


def test_a_damaged_vault_ends_with_one_and_is_told(command: Command, crew: Crew) -> None:
    """The point is damaged, for everybody: on standard error, in status with a fix, in the list."""
    flip_a_byte(largest_pack(crew))
    done = command("drill", "latest", code=1)
    assert (done["verdict"], done["mutants"]["total"]) == ("fail", 0)
    assert [check for check in done["checks"] if check["differences"]]
    assert crew.points()[0].state == "damaged"
    reasons = {one["check"]: one for one in command("status", code=4)["reasons"]}
    assert reasons["drill-failed"]["fix"]
    assert done["point"] in reasons["drill-failed"]["detail"]
    assert reasons["restore-points"]["level"] == "error"
    command.text("drill", done["point"], code=1)
    assert f"error: point {done['point']} is damaged: " in command.errors
    assert "hint: nightcrew backup full" in command.errors


def test_a_drill_without_its_vault_finds_nothing_out(command: Command, crew: Crew) -> None:
    """Exit code 5 and a finding of its own; the point is neither proven nor damaged."""
    vault = Path(crew.options.vault.location)
    vault.rename(vault.with_name("away"))
    done = command("drill", code=5)
    assert (done["verdict"], done["seconds"], done["rto_s"]) == ("inconclusive", None, None)
    [point] = crew.points()
    assert (point.state, point.proven_at) == ("stored", None)
    reasons = {one["check"]: one for one in command("status", code=4)["reasons"]}
    assert (reasons["drill-inconclusive"]["level"], reasons["drill-inconclusive"]["fix"]) == (
        "warning",
        f"nightcrew drill {point.id}",
    )
    command.text("drill", code=5)
    assert "error: nothing was found out: " in command.errors


def test_a_proof_that_does_not_come_makes_the_crew_unwell(command: Command, crew: Crew) -> None:
    """An old proof alone is a finding, and the figure says zero."""
    with begin_write(crew.engine) as connection:
        points.mark_proven(connection, crew.points()[0].id, at=datetime.now(UTC) - timedelta(days=36))
    document = command("status", code=4)
    found = {one["check"]: one for one in document["reasons"]}["proof-overdue"]
    assert (found["level"], found["fix"].startswith("nightcrew drill")) == ("error", True)
    assert document["backups"]["proven"]["share"] == 0.0
    assert document["backups"]["could_restore_to"] is not None


REFUSED = {
    ("zz",): "is no restore point",
    ("0000",): "no restore point begins with 0000",
    ("--report", "{tmp}/none/page.html"): "cannot be written: No such file or directory",
    ("--report", "{tmp}"): "is a directory",
    ("latest", "--list"): "--list does no drill",
    ("--disaster", "--cold"): "--disaster makes a crew and its points of its own",
}


def test_what_cannot_be_done_is_refused_before_anything_is_drilled(command: Command, crew: Crew) -> None:
    """Exit code 2 with a hint, nothing printed, and no drill written down that found nothing out."""
    for arguments, told in REFUSED.items():
        named = [one.replace("{tmp}", str(crew.directory)) for one in arguments]
        assert command.text("drill", *named, code=2) == "", arguments
        assert told in command.errors
        assert "hint: " in command.errors
    assert command("drill", "--list")["drills"] == []


def test_a_crew_without_points_is_told_to_take_one(
    sqlite_engine: Engine, nightcrew: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a pass nor a fail; and a crew that takes no backups has nothing to drill at all."""
    del sqlite_engine
    assert nightcrew.text("drill", code=3) == ""
    monkeypatch.setenv("NIGHTCREW_BACKUPS__ENABLED", "true")
    assert nightcrew.text("drill", code=5) == ""
    assert "nightcrew backup full" in nightcrew.errors
    assert json.loads(nightcrew.text("drill", "--list", "--json"))["proven"]["share"] is None
