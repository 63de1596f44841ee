"""`nightcrew drill --disaster`: a small crew under load loses everything, and comes back to the last count."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tasks.backups.drills.disaster import PREFIX
from tasks.backups.operations import list_drills
from tasks.backups.store.sandboxes import sweep
from tasks.errors import PermanentError
from tasks.usage.store import UsageQueries
from tests.acceptance.commands import run_nightcrew
from tests.support import wait_until
from tests.support.databases import opened_engine
from tests.support.processes import is_gone, short_directory, spawned
from workers.database import migrate
from workers.disaster.crew import without_settings
from workers.disaster.place import scratch_place
from workers.lifecycle import build_runtime, close_runtime
from workers.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.backups.drills.records import Drill
    from tests.acceptance.commands import Answer

_TIMEOUT_S = 400.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Give the directory of a crew that lives, and that no disaster may touch."""
    with short_directory() as directory:
        with opened_engine(f"sqlite:///{directory / 'nightcrew.db'}") as engine:
            migrate(engine)
        yield directory


@pytest.mark.long
def test_a_crew_comes_back_to_the_last_count(data_dir: Path) -> None:
    """Exact counts, every job and slot accounted for, a timeline, and nothing left of it but its line."""
    live = data_dir / "nightcrew.db"
    env = {"NIGHTCREW_DATABASE__URL": f"sqlite:///{live}", "NIGHTCREW_BACKUPS__ENABLED": "true"}
    before = {one.pid for one in psutil.process_iter()}
    document = disaster(data_dir, env).document
    assert document["verdict"] == "pass", document
    checks = {check["name"]: check for check in document["checks"]}
    assert checks.keys() == {
        *(f"{what}-lost.{of}" for what in ("database", "everything") for of in ("replay", "counts", "jobs", "slots")),
        "everything-lost.dump",
        "disaster.processes",
    }
    assert {check["outcome"] for check in checks.values()} == {"equal"}
    assert document["reason"].startswith("counts lost with the usage log: 0 of ")
    assert document["way"] == "disaster"
    assert document["rto_s"] > 0
    said = [moment["says"] for moment in document["timeline"]]
    assert_in_order(said, "is proven", "disaster 1", "is restored", "replayed", "disaster 2", "replayed", "pass")
    [recorded] = drills_of(data_dir, env)
    assert recorded.to_json() == document
    with opened_engine(f"sqlite:///{live}") as engine:
        assert UsageQueries(engine).sums().total == 0
    assert [path.name for path in data_dir.iterdir() if path.name.startswith("disaster-")] == []
    ours = [one for one in psutil.process_iter() if one.pid not in before and "disaster-" in words_of(one)]
    assert [one.pid for one in ours if not is_gone(one.pid)] == []


def test_no_disaster_where_something_lives(data_dir: Path) -> None:
    """Neither in the directory of the real crew, nor above it, nor where anything is at all."""
    settings = load_settings(data_dir, env={})
    other = data_dir / "other"
    other.mkdir()
    (other / "file").touch()
    link = data_dir / "link"
    link.symlink_to(data_dir / "nowhere")
    names = sorted(path.name for path in data_dir.iterdir())
    for to in (data_dir, data_dir.parent, other, other / "file", link):
        with pytest.raises(PermanentError, match="a disaster destroys what it finds"), scratch_place(settings, to):
            pass
    assert sorted(path.name for path in data_dir.iterdir()) == names


def test_the_small_crew_knows_nothing_of_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says of a database or a broker: none of it is handed on."""
    monkeypatch.setenv("NIGHTCREW_DATABASE__URL", "sqlite:////live.db")
    monkeypatch.setenv("nightcrew_broker__url", "redis://live")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    command = list(without_settings())
    assert {"NIGHTCREW_DATABASE__URL", "nightcrew_broker__url", "CREDENTIALS_DIRECTORY"} <= set(command)
    assert command[0] == "env"
    assert "PATH" in os.environ.keys() - set(command)


@pytest.mark.chaos
def test_nobody_survives_a_killed_simulation(data_dir: Path) -> None:
    """Crew and apps end with the command; what it wrote goes with the next simulation, or the start of a worker."""
    command = [sys.executable, "-m", "workers.cli", "drill", "--disaster", "--data-dir", str(data_dir)]
    with spawned(command, env={"NIGHTCREW_BACKUPS__ENABLED": "true"}) as process:
        wait_until(lambda: list(data_dir.glob("disaster-*/apps/two.jsonl")), timeout_s=120, what="both apps")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 5
        process.send(signal.SIGKILL)
        process.wait(timeout_s=60)
        wait_until(lambda: all(is_gone(one.pid) for one in family), timeout_s=60, what="the end of its processes")
    assert len(list(data_dir.glob("disaster-*"))) == 1
    sweep(data_dir, PREFIX)
    assert list(data_dir.glob("disaster-*")) == []


def disaster(data_dir: Path, env: dict[str, str]) -> Answer:
    return run_nightcrew("drill", "--disaster", "--json", data_dir=data_dir, env=env, timeout_s=_TIMEOUT_S)


def drills_of(data_dir: Path, env: dict[str, str]) -> list[Drill]:
    runtime = build_runtime(load_settings(data_dir, env=env), broker_url="unix:///nowhere", worker_name="test")
    try:
        return list_drills(runtime, way="disaster")
    finally:
        close_runtime(runtime)


def assert_in_order(said: list[str], *parts: str) -> None:
    rest: Any = iter(said)
    for part in parts:
        assert any(part in text for text in rest), (part, said)


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
