"""Drills as on a bare machine: a process of its own, the kit and the vault, and the source out of reach."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from nightcrew.messages import VerifyVault
from tasks.backups.drills.drill import DrillOrder
from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations import drill_point, list_drills, make_kit
from tasks.backups.operations.cold import ColdRestorer
from tasks.backups.operations.drilling import run_of
from tasks.backups.store.addresses import address_of
from tasks.errors import TransientError
from tasks.runtime import NoAttempt
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills import cold_poison
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory, spawned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tasks.backups.drills.records import Drill
    from tests.support.redis import RedisServer

_TRIES: Final = ("look", "read", "run", "connect", "call")


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    made = Crew(sqlite_engine, redis_server.client(), tmp_path, seed)
    made.full()
    return made


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have private servers work in a directory where nobody else's do."""
    with short_directory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        yield directory


def test_a_point_is_proven_with_the_kit_alone(crew: Crew) -> None:
    """An increment, in a process with nothing but the kit: everything equal, every mutant rejected, proven."""
    crew.change_some()
    crew.incremental()
    newest = crew.points()[0]
    drill = drill_point(crew.runtime, newest.id, cold=True)
    assert (drill.verdict, drill.way, drill.point_id) == (Verdict.PASS, "cold", newest.id), drill.to_json()
    assert drill.timing is not None
    assert drill.timing.fetch_s > drill.timing.apply_s > 0
    assert {"sqlite", "chain", "vault", "key"} <= {mutant.artefact for mutant in drill.mutants if mutant.is_killed}
    [recorded] = list_drills(crew.runtime)
    assert recorded.to_json() == drill.to_json()
    assert crew.points()[0].proven_at == drill.finished_at
    assert _left(crew) == []


def test_the_process_has_nothing_of_ours(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable but PATH and locale, a home that is empty, and no secret among its arguments."""
    monkeypatch.setenv("NIGHTCREW_DATABASE__URL", _source(crew))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert _poisoned(crew, "tell").reason == "there was nothing to compare"
    seen = json.loads(cold_poison.seen_file(_source(crew)).read_text())
    own = {seen["environment"].pop(name) for name in ("HOME", "TMPDIR")}
    assert all(path.startswith(str(crew.options.directory / "drills" / "drill-")) for path in own)
    assert seen["environment"].keys() <= {"PATH", "LANG", "LC_ALL", "LC_CTYPE"}  # Python sets the last one itself
    assert seen["home"] == []
    passwords = [vault.password for vault in make_kit(crew.runtime).vaults]
    assert not [one for one in seen["arguments"] for password in passwords if password in one]


@pytest.mark.parametrize("deed", [pytest.param(one, marks=() if one == "look" else pytest.mark.long) for one in _TRIES])
def test_whoever_goes_for_the_source_is_caught(crew: Crew, deed: str) -> None:
    """However it is tried, and whatever is made of the refusal: the drill finds nothing out, and says why."""
    drill = _poisoned(crew, deed)
    assert (drill.verdict, drill.point_id) == (Verdict.INCONCLUSIVE, crew.points()[0].id)
    assert drill.reason.startswith("the cold restore went for the source: ")
    assert [one.id for one in list_drills(crew.runtime)] == [drill.id]
    assert (crew.points()[0].proven_at, _left(crew)) == (None, [])


def test_what_the_kernel_ends_is_tried_again(crew: Crew) -> None:
    """It says nothing of the point: no line, and nothing is left."""
    with pytest.raises(TransientError, match="was killed"):
        _poisoned(crew, "die")
    assert (list_drills(crew.runtime), _left(crew)) == ([], [])


def test_a_kit_that_opens_nothing_finds_nothing_out(crew: Crew) -> None:
    """A lost password and a sandbox that would be the vault's: a line that says so, and never a bare error."""
    vault = crew.options.vault
    password = vault.password_file.read_text()
    vault.password_file.unlink()
    drill = drill_point(crew.runtime, None, cold=True)
    assert drill.verdict is Verdict.INCONCLUSIVE
    assert str(vault.password_file) in drill.reason
    vault.password_file.write_text("another password\n")
    vault.password_file.chmod(0o600)
    drill = drill_point(crew.runtime, None, cold=True)
    assert (drill.verdict, "wrong password" in drill.reason) == (Verdict.INCONCLUSIVE, True)
    vault.password_file.write_text(password)
    vaulted = replace(crew.options, directory=Path(vault.location))
    drill = drill_point(replace(crew.runtime, backups=vaulted), None, cold=True)
    assert (drill.verdict, "would touch a vault" in drill.reason) == (Verdict.INCONCLUSIVE, True)
    assert len(list_drills(crew.runtime)) == 3
    assert _left(crew) == []


@pytest.mark.chaos
@pytest.mark.parametrize("whom", ["child", "parent"])
def test_nothing_is_left_of_a_killed_cold_drill(crew: Crew, temporary: Path, whom: str) -> None:
    """No process, directory, password or lock, whoever of the two is killed."""
    url = crew.engine.url.render_as_string(hide_password=False)
    arguments = [url, address_of(crew.redis), str(crew.directory)]
    command = [sys.executable, "-m", cold_poison.__name__, "drill", *arguments]
    with spawned(command, env={"TMPDIR": str(temporary)}) as drill:
        here = wait_until(lambda: _here(crew), timeout_s=60, what="a cold restore")
        [child] = psutil.Process(drill.pid).children()
        assert list(here.parents[1].glob("kit-*/password")) != []
        os.kill(child.pid if whom == "child" else drill.pid, signal.SIGKILL)
        drill.wait(timeout_s=60)
        wait_until(lambda: is_gone(child.pid), timeout_s=60, what="the end of the child")
    crew.run(VerifyVault(slices=0))
    assert ([*_left(crew), *temporary.iterdir()], list_drills(crew.runtime)) == ([], [])


def _poisoned(crew: Crew, deed: str) -> Drill:
    """Do a cold drill whose process does something beside; nobody looks at what it restores."""
    command = (sys.executable, "-I", cold_poison.__file__, deed, _source(crew))
    restorer = ColdRestorer(runtime=crew.runtime, command=command)
    run = run_of(crew.runtime, teller=NoAttempt(), restorer=restorer)
    return replace(run, examiners=lambda _manifest: ()).run(DrillOrder(way="cold"))


def _source(crew: Crew) -> str:
    return str(crew.engine.url.database)


def _here(crew: Crew) -> Path | None:
    return next((crew.options.directory / "drills").glob(f"drill-*/home/{cold_poison.HERE}"), None)


def _left(crew: Crew) -> list[Path]:
    """Name what is there of a drill, and locks of the vault."""
    locks = Path(crew.options.vault.location) / "locks"
    return [*(crew.options.directory / "drills").glob("*"), *locks.iterdir()]
