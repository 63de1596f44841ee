"""`nightcrew up` with everything it runs: broker, Celery workers, beat and Flower."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from nightcrew._redis import connect
from tests.support import wait_until
from tests.support.processes import is_gone, short_directory, spawned
from tests.support.terminals import on_terminal
from workers.supervisor.crew_file import read_record
from workers.supervisor.crew_process import CrewProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.supervisor.crew_file import CrewRecord

_STOP_PROMISE_S = 20.0


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "a crew"


@pytest.fixture(scope="module")
def crew(data_dir: Path) -> Iterator[CrewProcess]:
    with CrewProcess(data_dir, env={"NIGHTCREW_BACKUPS__ENABLED": "true"}) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def record(crew: CrewProcess) -> CrewRecord:
    return crew.wait_ready()


def test_everyone_runs_and_takes_work(record: CrewRecord) -> None:
    """One command starts the whole crew, and its record names everyone."""
    assert {"broker", "beat", "flower", "worker-usage", "worker-ledger", "worker-backups"} <= record.children.keys()
    assert all(psutil.pid_exists(pid) for pid in record.children.values())
    with connect(record.broker_url, timeout_s=5) as client:
        assert client.info()["process_id"] == record.children["broker"]


def test_flower_asks_for_the_password(record: CrewRecord, data_dir: Path) -> None:
    """Nobody sees or changes jobs without it, and only the owner of the crew can read it."""
    assert record.flower is not None
    file = data_dir / "flower.password"
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for page in ("", "tasks", "api/workers"):
        url = record.flower.url + page
        assert status_of(url) == 401
        assert status_of(url, f"{record.flower.user}:wrong") == 401
        assert status_of(url, f"{record.flower.user}:{password}") == 200


def test_flower_listens_on_the_loopback_address_only(record: CrewRecord) -> None:
    """The page is for this machine; nginx opens it to others."""
    listening = [
        one.laddr.ip
        for one in psutil.Process(record.children["flower"]).net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_secrets_are_not_in_arguments(crew: CrewProcess, record: CrewRecord, data_dir: Path) -> None:
    """Every user of the machine can read the arguments of every process."""
    password = (data_dir / "flower.password").read_text().strip()
    for pid in (crew.pid, *record.children.values()):
        arguments = " ".join(psutil.Process(pid).cmdline())
        assert password not in arguments
        assert "broker.sock" not in arguments or pid == record.children["broker"]


def test_the_password_is_in_no_log(crew: CrewProcess, record: CrewRecord, data_dir: Path) -> None:
    """Where standard error is a file or a journal, even the first start names the file alone."""
    assert record.flower is not None
    output = crew.log.read_text()
    assert (data_dir / "flower.password").read_text().strip() not in output
    assert f"{record.flower.url}  user {record.flower.user}, password in {data_dir / 'flower.password'}" in output


@pytest.mark.long
def test_the_password_is_shown_once_on_a_terminal() -> None:
    """The first start shows it, for whoever sits there; later ones name the file."""
    with short_directory() as directory:
        for is_first in (True, False):
            with on_terminal([sys.executable, "-m", "workers.cli", "up", "--data-dir", directory]) as terminal:
                drawn = terminal.read_until(str(directory / "logs"), timeout_s=60)
                assert drawn.count((directory / "flower.password").read_text().strip()) == is_first
                assert f"in {directory / 'flower.password'}" in drawn
                terminal.type("\x03")
                assert terminal.wait(timeout_s=_STOP_PROMISE_S) == 0


def test_a_second_crew_in_the_same_directory_is_refused(crew: CrewProcess, data_dir: Path) -> None:
    """It says who runs there and leaves the running crew alone."""
    with spawned([sys.executable, "-m", "workers.cli", "up", "--data-dir", data_dir]) as second:
        assert second.wait(timeout_s=30) == 3
        assert f"supervisor pid {crew.pid}" in second.output()
    assert crew.exit_code() is None


@pytest.mark.parametrize("name", ["worker-usage", "worker-ledger", "worker-backups", "beat", "flower", "broker"])
def test_a_killed_member_comes_back(crew: CrewProcess, record: CrewRecord, name: str) -> None:
    """With all that it had started gone, and all that it had stored kept."""
    killed = psutil.Process(record.children[name])
    family = [killed, *killed.children(recursive=True)]
    killed.kill()
    wait_until(lambda: restarted(crew, name, since=record), timeout_s=30, what=f"another {name}")
    assert all(is_gone(one.pid) for one in family)


def test_ctrl_c_ends_everyone_in_time() -> None:
    """Exit code 0 within 20 s, no process and no record left; the next start reuses what is there."""
    with short_directory() as directory, CrewProcess(directory, with_flower=False) as crew:
        record = crew.wait_ready()
        assert "flower" not in record.children
        family = psutil.Process(crew.pid).children(recursive=True)
        began_at = time.monotonic()
        crew.send(signal.SIGINT)
        wait_until(lambda: crew.exit_code() is not None, timeout_s=_STOP_PROMISE_S, what="the end")
        assert crew.exit_code() == 0
        assert time.monotonic() - began_at < _STOP_PROMISE_S
        assert all(is_gone(one.pid) for one in family)
        assert list((directory / "run").iterdir()) == []


def test_a_killed_supervisor_leaves_nothing() -> None:
    """Workers, their children and the broker go with it."""
    with short_directory() as directory, CrewProcess(directory, with_flower=False) as crew:
        crew.wait_ready()
        family = psutil.Process(crew.pid).children(recursive=True)
        os.kill(crew.pid, signal.SIGKILL)
        wait_until(lambda: all(is_gone(one.pid) for one in family), timeout_s=10, what="the end of all")


def test_the_json_document_says_where_everything_is() -> None:
    """One object on standard output, once everyone is ready."""
    with short_directory() as directory:
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            "workers.cli",
            "up",
            "--json",
            "--no-flower",
            "--data-dir",
            directory,
        ]
        with spawned(argv) as command:
            lines = wait_until(
                lambda: [line for line in command.output().splitlines() if line.startswith("{")],
                timeout_s=60,
                what="the document",
            )
            document = json.loads(lines[0])
            assert document["pid"] == command.pid
            assert document["flower"] is None
            assert document["data_dir"] == str(directory)
            assert document["broker"]["url"].startswith("unix://")
            assert document["children"].keys() >= {"broker", "beat"}
            command.send(signal.SIGTERM)
            assert command.wait(timeout_s=_STOP_PROMISE_S) == 0


@pytest.mark.long
def test_a_closed_terminal_does_not_disturb_the_crew() -> None:
    """Who reads the lines may go away; the crew runs on and ends in order."""
    with short_directory() as directory:
        argv = [sys.executable, "-m", "workers.cli", "up", "--no-flower", "--data-dir", str(directory)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True) as command:
            try:
                assert command.stderr is not None
                command.stderr.close()
                wait_until(lambda: is_complete(directory), timeout_s=60, what="the crew")
                command.send_signal(signal.SIGHUP)
                assert command.wait(timeout=_STOP_PROMISE_S) == 0
            finally:
                command.kill()


def test_a_broker_that_is_away_has_its_exit_code(tmp_path: Path) -> None:
    """The message names the address without its password, and nothing is started."""
    env = {"NIGHTCREW_BROKER__URL": "redis://:canary@127.0.0.1:1/0"}
    with spawned([sys.executable, "-m", "workers.cli", "up", "--data-dir", tmp_path], env=env) as command:
        assert command.wait(timeout_s=30) == 4
        assert "no answer from redis://" in command.output()
        assert "canary" not in command.output()


def is_complete(data_dir: Path) -> bool:
    record = read_record(data_dir / "run" / "crew.json")
    return record is not None and record.complete


def restarted(crew: CrewProcess, name: str, *, since: CrewRecord) -> bool:
    now = crew.record()
    return now is not None and now.complete and now.restarts[name] == since.restarts[name] + 1


def status_of(url: str, account: str | None = None) -> int:
    request = urllib.request.Request(url)  # noqa: S310  the address of the crew's own Flower
    if account is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  see above
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
