"""What a dump holds, read by private servers of both kinds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tasks.backups.store.private_redis import PrivateRedis, private_redis
from tasks.backups.store.rdb_files import RdbDamagedError, RdbForeignError, server_programs
from tasks.errors import CancelledError
from tests.integration.tasks.backups.redis.filling import (
    LIMITS,
    Told,
    database,
    digest_of,
    dump,
    fill,
    fill_with_many,
    read,
)
from tests.support import wait_until
from tests.support.processes import is_gone
from tests.support.redis import RedisServer, running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.backups.manifest import Redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis(options={"enable-debug-command": "local"}) as started:
        yield started


def test_everything_in_a_dump_is_counted(server: RedisServer) -> None:
    """Each database tells its keys, those that expire, and the types of those that do not."""
    fill(server)

    expected = read(dump(server))

    zero, three, fifteen = expected.databases
    assert (zero.number, zero.keys, zero.expires) == (0, 13, 2)
    assert zero.types == {"hash": 1, "list": 1, "set": 2, "stream": 1, "string": 4, "zset": 2}
    assert (three.number, three.keys, three.types) == (3, 50, {"string": 50})
    assert (fifteen.number, fifteen.keys) == (15, 1)
    assert expected.digest == digest_of(server)
    about = server.client().info("server")
    version = about.get("valkey_version") or about["redis_version"]
    assert expected.server_version == f"{about.get('server_name', 'redis')} {version}"


def test_every_program_reads_the_same(server: RedisServer) -> None:
    """Redis and Valkey count the same in one file, and each comes to its own digest as often as it is asked."""
    fill(server)
    rdb = dump(server)

    readings = [reading for program in server_programs() for reading in _readings(rdb, program)]

    assert len(readings) >= 2
    assert len({reading.model_dump_json(exclude={"digest", "digest_by"}) for reading in readings}) == 1
    assert len({(reading.digest, reading.digest_by) for reading in readings}) == len(readings) / 2


def test_keys_past_their_time_stay(server: RedisServer) -> None:
    """A dump holds the same after the keys in it have expired."""
    client = server.client()
    client.mset({f"key:{number}": number for number in range(100)})
    for number in range(50):
        client.pexpire(f"key:{number}", 1_500)
    rdb = dump(server)
    before = [reading for program in server_programs() for reading in _readings(rdb, program)]

    wait_until(lambda: client.dbsize() == 50, timeout_s=20, what="the end of the keys")
    after = [reading for program in server_programs() for reading in _readings(rdb, program)]

    assert after == before
    assert all(one.databases[0].keys == 100 for one in after)
    assert all(one.databases[0].expires == 50 for one in after)


def test_many_keys_are_counted_once_each(server: RedisServer) -> None:
    """The types of 200,000 keys add up to 200,000."""
    fill_with_many(server, 200_000)

    (zero,) = read(dump(server)).databases

    assert zero.keys == 200_000
    assert zero.types == {"string": 200_000}


def test_a_high_database_is_read() -> None:
    """A server may have more databases than the sixteen of the default."""
    with running_redis(options={"databases": "5000"}) as server:
        database(server, 4_999).set("key", "value")

        (highest,) = read(dump(server)).databases

    assert (highest.number, highest.keys) == (4_999, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-20],
        lambda whole: whole[:100] + bytes([whole[100] ^ 0xFF]) + whole[101:],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda _: b"",
        lambda _: b"this is no dump at all",
    ],
    ids=["cut off", "another byte", "another checksum", "empty", "another file"],
)
def test_a_damaged_dump_is_refused(server: RedisServer, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """No damage passes for a dump, and no server is left behind."""
    fill(server)
    rdb = tmp_path / "damaged.rdb"
    rdb.write_bytes(damage(dump(server).read_bytes()))

    with pytest.raises(RdbDamagedError, match=r"damaged\.rdb is (damaged: .*checker|no dump)"):
        read(rdb)

    assert not _own_servers()


def test_a_dump_of_the_future_names_what_is_missing(server: RedisServer, tmp_path: Path) -> None:
    """A dump that no program here reads is not called damaged: somebody is told what to install."""
    whole = dump(server).read_bytes()
    rdb = tmp_path / "new.rdb"
    rdb.write_bytes(b"REDIS0099" + whole[9:])

    with pytest.raises(RdbForeignError, match="Install the kind and version of the server that wrote it"):
        read(rdb)


def test_the_private_server_is_private(server: RedisServer) -> None:
    """It listens on no port, and no other user can reach its socket."""
    for loaded in _loaded(dump(server)):
        listening = [one for one in psutil.Process(loaded.pid).net_connections() if one.status == psutil.CONN_LISTEN]
        assert not listening
        assert loaded.socket.parent.stat().st_mode & 0o777 == 0o700
        assert loaded.socket.stat().st_mode & 0o077 == 0


def test_the_private_server_ends_with_its_block(server: RedisServer) -> None:
    """It is gone after the block, also after one that failed."""
    rdb = dump(server)
    pids = [loaded.pid for loaded in _loaded(rdb)]

    def fail() -> None:
        for loaded in _loaded(rdb):
            pids.append(loaded.pid)
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert len(pids) >= 2
    assert all(is_gone(pid) for pid in pids)
    assert not _own_servers()


def test_the_private_server_ends_with_its_thread(server: RedisServer) -> None:
    """Not even a worker that dies in the middle leaves it behind."""
    rdb, opened = dump(server), []

    def enter() -> None:
        block = private_redis(Path(server.program), rdb, limits=LIMITS, progress=Told())
        opened.append((block, block.__enter__()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    ((block, loaded),) = opened

    wait_until(lambda: is_gone(loaded.pid), timeout_s=10, what="the end of the server")
    block.__exit__(None, None, None)


def test_a_read_that_is_called_off_leaves_nothing(server: RedisServer) -> None:
    """Cancelling while the server loads ends it at once."""
    fill_with_many(server, 50_000)

    with (
        pytest.raises(CancelledError),
        private_redis(Path(server.program), dump(server), limits=LIMITS, progress=Told(lambda _: True)),
    ):
        pass

    assert not _own_servers()


def _readings(rdb: Path, program: Path) -> Iterator[Redis]:
    """Read it twice with a program, unless the program is of the other kind."""
    try:
        yield read(rdb, [program])
        yield read(rdb, [program])
    except RdbForeignError:
        return


def _loaded(rdb: Path) -> Iterator[PrivateRedis]:
    for program in server_programs():
        try:
            with private_redis(program, rdb, limits=LIMITS, progress=Told()) as loaded:
                yield loaded
        except RdbForeignError:
            continue


def _own_servers() -> list[psutil.Process]:
    """Find the private servers of this process that still run."""
    return [one for one in psutil.Process().children() if not is_gone(one.pid) and "--replicaof" in one.cmdline()]
