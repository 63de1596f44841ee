"""The servers that tests stand on do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support import wait_until
from tests.support.processes import is_gone
from tests.support.redis import RedisServer, running_redis

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tcp", [False, True])
def test_a_killed_redis_server_comes_back_with_its_keys(*, tcp: bool) -> None:
    """A kill -9 loses nothing that was acknowledged, and the address stays."""
    with running_redis(tcp=tcp) as server:
        client = server.client()
        client.set("key", "value")
        first_pid, first_url = server.pid, server.url
        server.kill9()
        assert is_gone(first_pid)
        server.restart()
        assert client.get("key") == b"value"
        assert (server.pid != first_pid, server.url) == (True, first_url)


def test_a_stopped_redis_server_comes_back_with_its_keys(own_redis_server: RedisServer) -> None:
    """A restart of a running server is a shutdown and a start on the same files."""
    own_redis_server.client().set("key", "value")
    own_redis_server.restart()
    assert own_redis_server.client().get("key") == b"value"


def test_a_frozen_redis_server_answers_again_when_thawed(own_redis_server: RedisServer) -> None:
    """A frozen server takes connections and gives no answer."""
    own_redis_server.sigstop()
    with pytest.raises(RedisTimeoutError):
        own_redis_server.client(socket_timeout=0.1, retry=None).ping()
    own_redis_server.sigcont()
    assert own_redis_server.client().ping()


def test_a_server_that_is_not_ours_is_refused(tmp_path: Path, tcp_redis_server: RedisServer) -> None:
    """A server whose port is taken does not pass off the other one as itself."""
    second = RedisServer(tmp_path, tcp=True)
    second.port = tcp_redis_server.port
    with pytest.raises(AssertionError, match=r"ended at once|another server"):
        second.start()


@pytest.mark.parametrize("round_", [1, 2])
def test_the_shared_redis_server_is_empty(redis_server: RedisServer, round_: int) -> None:
    """Each test finds the shared server empty."""
    client = redis_server.client()
    assert client.dbsize() == 0
    client.set(f"key {round_}", "value")


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_has_a_database_of_its_own(engine: sa.Engine, round_: int) -> None:
    """The tables are there and empty, on SQLite and on PostgreSQL."""
    assert "job_runs" in sa.inspect(engine).get_table_names()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE only_in_round_{round_} (id int)")
        tables = set(sa.inspect(connection).get_table_names())
    assert {table for table in tables if table.startswith("only_in")} == {f"only_in_round_{round_}"}


def test_waiting_in_vain_says_for_what() -> None:
    """The failure of a deadline names what was awaited and the last value."""
    with pytest.raises(AssertionError, match=r"waited 0.02 s in vain for the moon; the last value was 0"):
        wait_until(lambda: 0, timeout_s=0.02, what="the moon")
