"""Captures of servers that serve, by their own dumps."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from tasks.backups.store.captures import redis as captures
from tasks.backups.store.captures.redis import capture_redis
from tasks.backups.store.private_redis import private_redis
from tasks.backups.store.rdb_files import server_programs
from tasks.errors import CancelledError, PermanentError, TransientError
from tests.integration.tasks.backups.redis.filling import (
    LIMITS,
    Told,
    digest_of,
    fill,
    fill_with_many,
    make_stage,
    read,
)
from tests.support import wait_until
from tests.support.redis import RedisServer, running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DEBUG = {"enable-debug-command": "local"}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis(options=_DEBUG) as started:
        yield started


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "port"])
def test_a_capture_is_what_the_server_holds(tmp_path: Path, *, tcp: bool) -> None:
    """Every key of every database is in the dump, and the manifest says so."""
    with running_redis(tcp=tcp, options=_DEBUG) as server:
        fill(server)
        stage = make_stage(tmp_path / "stage")

        captured = capture_redis(server.url, name="broker", stage=stage)

        (member,) = captured.members
        whole = (stage.directory / member.name).read_bytes()
        assert (member.name, member.part, member.size_bytes) == ("redis/broker.rdb", "redis", len(whole))
        assert member.sha256 == hashlib.sha256(whole).hexdigest()
        assert captured.size_bytes == len(whole)
        assert captured.expected.digest == digest_of(server)
        assert [one.keys for one in captured.expected.databases] == [13, 50, 1]
        assert captured.tools
        assert server.client().info("persistence")["rdb_saves"] == 1
        assert (stage.directory / member.name).stat().st_mode & 0o777 == 0o600


def test_too_little_room_is_told_before_the_server_saves(server: RedisServer, tmp_path: Path) -> None:
    """What is there, and what is needed."""
    stage = make_stage(tmp_path / "stage")
    with pytest.raises(TransientError, match=r"has .* left, and about .* are needed"):
        capture_redis(server.url, name="broker", stage=stage, spare_bytes=shutil.disk_usage(tmp_path).total)
    assert server.client().info("persistence")["rdb_saves"] == 0


def test_an_empty_server_is_captured(server: RedisServer, tmp_path: Path) -> None:
    """Nothing at all is something that can be taken and found equal."""
    captured = capture_redis(server.url, name="cache", stage=make_stage(tmp_path / "stage"))

    assert captured.expected.databases == ()
    assert captured.expected.digest == "0" * 40


def test_a_capture_is_of_one_moment_while_writers_write(server: RedisServer, tmp_path: Path) -> None:
    """A counter has a value of the time of the capture, and two keys written together are equal."""
    fill_with_many(server, 20_000)
    client = server.client()
    stage = make_stage(tmp_path / "stage")
    with _counting(server):
        wait_until(lambda: client.get("first"), timeout_s=10, what="the first count")
        before = int(client.get("first") or 0)
        captured = capture_redis(server.url, name="broker", stage=stage)
        after = int(client.get("first") or 0)

    rdb = stage.directory / "redis/broker.rdb"
    first, second = _values(rdb, "first"), _values(rdb, "second")
    assert before <= first <= after
    assert first == second
    assert read(rdb) == captured.expected


def test_two_captures_in_one_second_are_two(server: RedisServer, tmp_path: Path) -> None:
    """The second of the last save is not taken for that of the next one."""
    client = server.client()
    for number in (1, 2):
        client.set("number", number)
        stage = make_stage(tmp_path / str(number))
        capture_redis(server.url, name="broker", stage=stage)
        assert _values(stage.directory / "redis/broker.rdb", "number") == number


def test_a_server_that_keeps_a_log_keeps_no_dump(server: RedisServer, tmp_path: Path) -> None:
    """What the embedded broker would never read does not stay on its disk, also that of a capture called off."""
    server.client().set("key", "value")
    left_behind = server.directory / "dump.rdb"

    capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "one"))
    assert not left_behind.exists()

    left_behind.write_bytes(b"of a capture that was called off")
    capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "two"))
    assert not left_behind.exists()


@pytest.mark.parametrize("options", [{"appendonly": "no"}, {"save": "3600 1"}], ids=["no log", "own saves"])
def test_a_server_that_lives_on_its_dump_keeps_it(tmp_path: Path, options: dict[str, str]) -> None:
    """The first dump of such a server is what it starts from the next time."""
    with running_redis(options=options) as server:
        server.client().set("key", "value")

        capture_redis(server.url, name="cache", stage=make_stage(tmp_path / "stage"))

        assert (server.directory / "dump.rdb").exists()


@pytest.mark.parametrize(
    "place",
    [
        lambda path: path.write_bytes(b"old"),
        lambda path: path.symlink_to("/proc/version"),
        lambda path: path.mkdir(),
        lambda _: None,
    ],
    ids=["old file", "link", "directory", "nothing"],
)
def test_only_a_new_file_of_the_server_is_taken(tmp_path: Path, place: Callable[[Path], object]) -> None:
    """What was there before the save, or is no file, is not the dump: an address may lead into a container."""
    path, to = tmp_path / "dump.rdb", tmp_path / "copy.rdb"
    place(path)
    dump = captures._Dump(path=path, owner=os.geteuid(), is_spare=False)

    assert captures._copy(dump, to, captures._look_at(path), Told().hear) is None
    assert not to.exists()


def test_a_file_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    """A new file in the place of the dump counts only if it belongs to the user that the server runs as."""
    path, to = tmp_path / "dump.rdb", tmp_path / "copy.rdb"
    path.write_bytes(b"new")
    somebody = captures._Dump(path=path, owner=os.geteuid() + 1, is_spare=False)
    server = captures._Dump(path=path, owner=os.geteuid(), is_spare=False)

    assert captures._copy(somebody, to, None, Told().hear) is None
    assert captures._copy(server, to, None, Told().hear) is not None


@pytest.mark.parametrize("job", ["bgsave", "bgrewriteaof"])
def test_what_the_server_does_already_is_waited_for(server: RedisServer, tmp_path: Path, job: str) -> None:
    """A save that began before is older than the capture, and a rewrite of the log goes first."""
    client = server.client()
    client.set("number", 1)
    fill_with_many(server, 300)
    client.config_set("rdb-key-save-delay", 1_000)
    getattr(client, job)()
    client.set("number", 2)
    stage = make_stage(tmp_path / "stage")

    capture_redis(server.url, name="broker", stage=stage)

    assert _values(stage.directory / "redis/broker.rdb", "number") == 2


def test_a_server_that_stays_busy_is_asked_again_later(server: RedisServer, tmp_path: Path) -> None:
    """The wait for other saves has an end."""
    _make_saves_slow(server)
    server.client().bgsave()

    with pytest.raises(TransientError, match="busy with another background save"):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "stage"), patience_s=0.3)


def test_progress_tells_how_far_a_capture_is(server: RedisServer, tmp_path: Path) -> None:
    """Saving, copying and reading are told one after the other, in bytes."""
    fill_with_many(server, 5_000)
    server.client().config_set("rdb-key-save-delay", 300)  # the server tells it once a second
    told = Told()

    capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "stage", told))

    assert [phase for phase in told.phases if phase.split()[0] in {"save", "copy", "read"}] == [
        "save broker",
        "copy broker",
        "read broker",
    ]
    saved = [done for phase, done, _ in told.calls if phase == "save broker"]
    assert saved == sorted(saved)
    assert saved[-1] > 0
    assert all(0 <= done <= total for _, done, total in told.calls if total is not None)


def test_a_capture_can_be_called_off_and_taken_again(server: RedisServer, tmp_path: Path) -> None:
    """Cancelling in the middle passes at once; the next capture waits for the save that still runs, and leaves none."""
    client = server.client()
    _make_saves_slow(server)
    told = Told(lambda _: bool(client.info("persistence")["rdb_bgsave_in_progress"]))

    with pytest.raises(CancelledError):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "one", told))
    client.config_set("rdb-key-save-delay", 0)
    client.flushall()  # which ends the slow one
    client.set("number", 2)
    stage = make_stage(tmp_path / "two")
    capture_redis(server.url, name="broker", stage=stage)

    assert _values(stage.directory / "redis/broker.rdb", "number") == 2
    assert not (server.directory / "dump.rdb").exists()


def test_a_save_that_is_called_off_is_no_capture(server: RedisServer, tmp_path: Path) -> None:
    """FLUSHALL ends a save without a failure, and without a dump."""
    client = server.client()
    _make_saves_slow(server)
    flushed: list[Any] = []

    def flush(_phase: str) -> bool:
        if not flushed and client.info("persistence")["rdb_bgsave_in_progress"]:
            flushed.append(client.flushall())
        return False

    with pytest.raises(TransientError, match="called off"):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "stage", Told(flush)))


def test_a_server_killed_in_the_middle_is_tried_again(server: RedisServer, tmp_path: Path) -> None:
    """A crash during the save is no capture, and the server is whole after it."""
    client = server.client()
    _make_saves_slow(server)

    def kill(_phase: str) -> bool:
        if server.is_running() and client.info("persistence")["rdb_bgsave_in_progress"]:
            server.kill9()
        return False

    with pytest.raises(TransientError, match="does not answer"):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "one", Told(kill)))

    server.restart()
    captured = capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "two"))
    assert captured.expected.databases[0].keys == 2_000


def test_a_failed_save_is_told_and_forgotten(server: RedisServer, tmp_path: Path) -> None:
    """The error says what is in the way; once it is gone the next capture succeeds."""
    in_the_way = server.directory / "dump.rdb"
    in_the_way.mkdir()

    with pytest.raises(TransientError, match=r"failed: .*dump\.rdb is a directory"):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "one"))

    in_the_way.rmdir()
    server.client().set("key", "value")
    assert capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "two")).expected.databases[0].keys == 1


def test_a_server_that_is_away_is_tried_again(server: RedisServer, tmp_path: Path) -> None:
    """Nobody there is a trouble of the world."""
    server.stop()

    with pytest.raises(TransientError, match="does not answer"):
        capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "stage"))


def test_a_server_that_loads_is_waited_for(server: RedisServer, tmp_path: Path) -> None:
    """After a restart the capture begins when everything is back."""
    fill_with_many(server, 3_000)
    client = server.client()
    client.config_set("key-load-delay", 300)
    client.config_set("loading-process-events-interval-bytes", 1_024)  # or it would not answer before it is through
    in_the_background = threading.Thread(target=client.execute_command, args=("DEBUG", "RELOAD"))
    in_the_background.start()
    look = server.client()
    wait_until(lambda: look.info("persistence")["loading"], timeout_s=10, what="the server to load")

    captured = capture_redis(server.url, name="broker", stage=make_stage(tmp_path / "stage"))
    in_the_background.join()

    assert captured.expected.databases[0].keys == 3_000


def test_a_replica_is_refused(server: RedisServer, tmp_path: Path) -> None:
    """A replica may be behind: the error names its primary."""
    server.client().replicaof("127.0.0.1", "1")

    with pytest.raises(PermanentError, match=r"is a replica.*127\.0\.0\.1:1"):
        capture_redis(server.url, name="cache", stage=make_stage(tmp_path / "stage"))


def test_a_node_of_a_cluster_is_refused(tmp_path: Path) -> None:
    """One node is not the whole."""
    with (
        running_redis(options={"cluster-enabled": "yes"}) as server,
        pytest.raises(PermanentError, match="node of a cluster"),
    ):
        capture_redis(server.url, name="cache", stage=make_stage(tmp_path / "stage"))


def test_a_user_who_may_not_save_is_told_what_to_grant(tcp_redis_server: RedisServer, tmp_path: Path) -> None:
    """The error names the rights, and nothing secret."""
    client = tcp_redis_server.client()
    client.acl_setuser("crew", enabled=True, passwords=["+secretword"], commands=["+info", "+config|get"])
    url = f"redis://crew:secretword@127.0.0.1:{tcp_redis_server.port}/0"

    with pytest.raises(PermanentError, match=r"\+bgsave") as caught:
        capture_redis(url, name="broker", stage=make_stage(tmp_path / "stage"))

    assert "secretword" not in str(caught.value)


def test_a_wrong_password_is_not_tried_again(tcp_redis_server: RedisServer, tmp_path: Path) -> None:
    """Who is not let in today will not be let in tomorrow."""
    url = f"redis://crew:wrongword@127.0.0.1:{tcp_redis_server.port}/0"

    with pytest.raises(PermanentError, match="does not let us in") as caught:
        capture_redis(url, name="broker", stage=make_stage(tmp_path / "stage"))

    assert "wrongword" not in str(caught.value)


@contextmanager
def _counting(server: RedisServer) -> Iterator[None]:
    """Count up two keys together, as fast as it goes, during the block."""
    over = threading.Event()
    client = server.client()

    def count() -> None:
        while not over.is_set():
            with client.pipeline(transaction=True) as pipeline:
                for _ in range(20):
                    pipeline.incr("first")
                    pipeline.incr("second")
                pipeline.execute()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _values(rdb: Path, key: str) -> int:
    """Give the number that a key of database 0 has in a dump."""
    for program in reversed(server_programs()):
        try:
            with private_redis(program, rdb, limits=LIMITS, progress=Told()) as loaded, loaded.client() as client:
                return int(client.get(key) or -1)
        except (PermanentError, RedisError):
            continue
    raise AssertionError(rdb)


def _make_saves_slow(server: RedisServer) -> None:
    """Let the next saves take some ten seconds."""
    fill_with_many(server, 2_000)
    server.client().config_set("rdb-key-save-delay", 5_000)
