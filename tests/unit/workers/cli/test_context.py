"""Which crew a verb speaks to."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from workers.cli.context import open_crew
from workers.cli.output import CliError, ExitCode
from workers.supervisor.crew_file import CrewRecord, write_record

if TYPE_CHECKING:
    from pathlib import Path


def write_crew(data_dir: Path, *, pid: int) -> None:
    record = CrewRecord(
        pid=pid,
        broker_url="unix:///run/x.sock?db=0",
        flower=None,
        children={},
        ready=(),
        complete=True,
        restarts={},
        started_at=datetime.now(UTC),
    )
    (data_dir / "run").mkdir()
    write_record(data_dir / "run" / "crew.json", record)


def ended_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_running_crew(tmp_path: Path) -> None:
    """The broker is the one that the running crew wrote down."""
    write_crew(tmp_path, pid=os.getpid())
    with open_crew(tmp_path) as crew:
        assert crew.broker_url == "unix:///run/x.sock?db=0"


def test_settings_win_over_running_crew(tmp_path: Path) -> None:
    """A broker of the settings needs no crew to run here."""
    (tmp_path / "nightcrew.toml").write_text('[broker]\nurl = "redis://localhost/5"\n', encoding="utf-8")
    with open_crew(tmp_path) as crew:
        assert crew.broker_url == "redis://localhost/5"


def test_no_crew(tmp_path: Path) -> None:
    """Without a crew the error says where it looked and how to start one, for broker and database alike."""
    with open_crew(tmp_path) as crew:
        for part in ("broker_url", "engine"):
            with pytest.raises(CliError) as caught:
                getattr(crew, part)
            assert caught.value.message == f"no crew runs in {tmp_path}"
            assert caught.value.hint == f"start it with: nightcrew up --data-dir {tmp_path}"
            assert caught.value.code == ExitCode.BROKER_UNREACHABLE
    assert list(tmp_path.iterdir()) == []


def test_crew_that_died(tmp_path: Path) -> None:
    """A file left by a crew that was killed does not count as a crew."""
    write_crew(tmp_path, pid=ended_pid())
    with open_crew(tmp_path) as crew, pytest.raises(CliError, match="no crew runs"):
        _ = crew.broker_url


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}'])
def test_unreadable_crew_file(tmp_path: Path, text: str) -> None:
    """A damaged file is an error of its own."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "crew.json").write_text(text, encoding="utf-8")
    with open_crew(tmp_path) as crew, pytest.raises(CliError, match="cannot be read"):
        _ = crew.broker_url


LOG_A_SECRET = """
import pathlib, structlog
from workers.cli.context import open_crew
with open_crew(pathlib.Path.cwd()) as crew:
    crew.build_runtime("unix:///run/x.sock?db=0")
    structlog.get_logger().warning("secret.logged", reason=crew.settings.wire.first_key)
"""


def test_what_a_verb_logs_has_no_secret(tmp_path: Path) -> None:
    """What jobs log while a verb does them goes to standard error, as masked as in the logs of the crew."""
    secret = "A" * 43
    argv = [sys.executable, "-c", LOG_A_SECRET]
    env = {**os.environ, "NIGHTCREW_WIRE__SIGNING_KEYS": f"canary:{secret}", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, check=True, text=True, timeout=60)
    assert done.stderr == "level='warning' event='secret.logged' reason='***'\n"
