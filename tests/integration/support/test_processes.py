"""Nothing that a test starts outlives it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.support.processes import is_gone, short_directory, spawned

_ROOT = Path(__file__).parents[3]
_TIMEOUT_S = 30.0

_STARTS_SERVERS = """
import json, psutil, time
from tests.support.postgres import running_postgres
from tests.support.redis import running_redis
with running_redis() as redis, running_postgres():
    pids = [redis.pid, *[child.pid for child in psutil.Process().children()]]
    print(json.dumps(pids), flush=True)
    time.sleep(600)
"""

_LEAVES_AN_ORPHAN = """
import subprocess, sys
def test_leaves_an_orphan():
    daemonize = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
    subprocess.run([sys.executable, "-c", daemonize], check=True)
"""

_FAILS_WITH_A_SEED = """
def test_fails(seed):
    assert seed != 4711
"""


def test_servers_end_with_a_killed_session() -> None:
    """A kill -9 of the process that started them takes Redis and PostgreSQL with it."""
    with (
        short_directory() as directory,
        spawned([sys.executable, "-c", _STARTS_SERVERS], env={"TMPDIR": str(directory)}, cwd=_ROOT) as session,
    ):
        directory.chmod(0o711)  # PostgreSQL runs as another account when this is root, and its files lie in here
        line = wait_until(lambda: _json_line(session.output()), timeout_s=_TIMEOUT_S, what="the servers' pids")
        pids = json.loads(line)
        session.send(signal.SIGKILL)
        assert len(pids) >= 2
        wait_until(lambda: all(map(is_gone, pids)), timeout_s=_TIMEOUT_S, what=f"the end of {pids}")


def test_spawned_ends_the_whole_family() -> None:
    """The children of a spawned process end with the block, also those that left its process group."""
    program = (
        "import subprocess, sys, time; c = subprocess.Popen(['sleep', '600'], start_new_session=True);"
        "print(f'[{c.pid}]', flush=True); time.sleep(600)"
    )
    with spawned([sys.executable, "-c", program]) as process:
        line = wait_until(lambda: _json_line(process.output()), timeout_s=_TIMEOUT_S, what="the child's pid")
    assert not process.is_running()
    assert is_gone(json.loads(line)[0])


def test_a_failure_shows_what_the_process_wrote() -> None:
    """The output of a spawned command is part of the failure of the block around it."""

    def fail_after_it_ended() -> None:
        with spawned([sys.executable, "-c", "print('last words')"]) as process:
            process.wait(timeout_s=_TIMEOUT_S)
            raise LookupError

    with pytest.raises(LookupError) as caught:
        fail_after_it_ended()
    assert "last words" in "\n".join(caught.value.__notes__)


def test_a_session_that_leaves_an_orphan_fails(tmp_path: Path) -> None:
    """Even a daemon that detached itself is found, named and ended."""
    code, output = _run_session(tmp_path, _LEAVES_AN_ORPHAN)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1 passed" in output
    assert "processes left behind by the tests" in output
    assert "os.setsid()" in output


def test_a_failure_shows_its_seed(tmp_path: Path) -> None:
    """The report of a failed random test says how to repeat it."""
    code, output = _run_session(tmp_path, _FAILS_WITH_A_SEED, NIGHTCREW_TEST_SEED="4711")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "repeat with NIGHTCREW_TEST_SEED=4711" in output


def _run_session(directory: Path, test: str, **env: str) -> tuple[int, str]:
    path = directory / "test_inner.py"
    path.write_text(test, encoding="utf-8")
    argv: list[str | Path] = [sys.executable, "-m", "pytest", "-q", "-c", _ROOT / "pyproject.toml", "--rootdir", _ROOT]
    with spawned([*argv, "-p", "tests.conftest", "-p", "no:cacheprovider", path], env=env, cwd=_ROOT) as session:
        code = session.wait(timeout_s=_TIMEOUT_S)
        return code, session.output()


def _json_line(output: str) -> str | None:
    return next((line for line in output.splitlines() if line.startswith("[") and line.endswith("]")), None)
