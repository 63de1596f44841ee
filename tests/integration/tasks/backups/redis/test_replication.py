"""Dumps that come over the connection, from servers whose disk is not ours."""

from __future__ import annotations

import hashlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from nightcrew._redis import connect
from tasks.backups.store.captures import redis_replication
from tasks.backups.store.captures.redis import capture_redis
from tasks.backups.store.captures.redis_replication import receive_dump
from tasks.errors import CancelledError, PermanentError, TransientError
from tests.integration.tasks.backups.redis.filling import (
    Told,
    digest_of,
    fill,
    fill_with_many,
    make_stage,
    read,
)
from tests.support.certificates import make_certificate
from tests.support.redis import RedisServer, running_redis
from tests.support.secured_redis import running_secured_redis, speaks_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MARK = b"0123456789abcdefghijklmnopqrstuvwxyzABCD"
_AT_ONCE = {"repl-diskless-sync-delay": "0", "enable-debug-command": "local"}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis(tcp=True, options=_AT_ONCE) as started:
        yield started


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_dump_comes_over_the_connection(server: RedisServer, tmp_path: Path, diskless: str) -> None:
    """It is whole, whether the server knows its length beforehand or not."""
    fill(server)
    server.client().config_set("repl-diskless-sync", diskless)
    rdb, told = tmp_path / "received.rdb", Told()

    sha256 = receive(server.url, rdb, told)

    assert sha256 == hashlib.sha256(rdb.read_bytes()).hexdigest()
    assert read(rdb).digest == digest_of(server)
    assert rdb.read_bytes()[-9] == 0xFF, "a dump ends with this and its checksum: nothing may follow"
    assert rdb.stat().st_mode & 0o777 == 0o600
    assert told.calls[-1][1] == rdb.stat().st_size


def test_a_large_dump_comes_in_parts(server: RedisServer, tmp_path: Path) -> None:
    """Where one part ends and the next begins makes no difference."""
    client = server.client()
    for number in range(200):
        client.set(f"key:{number}", bytes([number]) * 65_537)
    client.config_set("rdbcompression", "no")
    rdb, told = tmp_path / "received.rdb", Told()

    receive(server.url, rdb, told)

    assert rdb.stat().st_size > 13_000_000
    assert len(told.calls) > 10
    assert read(rdb).digest == digest_of(server)


@pytest.mark.parametrize("part_bytes", [1, 7, 39, 40, 41, 1_000])
@pytest.mark.parametrize("header", [b"$EOF:" + _MARK, b"$345"], ids=["mark", "length"])
def test_parts_may_end_anywhere(header: bytes, part_bytes: int) -> None:
    """Line breaks, header, dump and mark are told apart, however the network cuts them."""
    whole = b"REDIS" + _MARK[:20] * 17
    sent = b"\n\n" + header + b"\r\n" + whole + (_MARK if _MARK in header else b"")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # each part arrives as it was sent
    parts = [sent[start : start + part_bytes] for start in range(0, len(sent), part_bytes)]
    with ours, theirs:
        theirs.settimeout(5.0)
        sending = threading.Thread(target=lambda: [theirs.send(part) for part in parts])
        sending.start()
        total, chunks = redis_replication._Stream(ours, "broker", lambda: None).dump()
        received = b"".join(chunks)
        sending.join()

    assert received == whole
    assert total == (None if _MARK in header else len(whole))


def test_a_server_whose_disk_is_not_ours_is_captured(tmp_path: Path) -> None:
    """A capture takes the connection where the server does not tell where its dump is."""
    with running_redis(tcp=True, options={**_AT_ONCE, "rename-command": 'CONFIG ""'}) as server:
        fill(server)
        told = Told()

        captured = capture_redis(server.url, name="cache", stage=make_stage(tmp_path / "stage", told))

        assert "receive cache" in told.phases
        assert captured.expected.digest == digest_of(server)


@pytest.mark.skipif(not speaks_tls(), reason="the server at hand has no TLS")
def test_a_dump_comes_encrypted(tmp_path: Path) -> None:
    """TLS holds for the dump as for everything else, and a certificate of another host is refused."""
    certificate = make_certificate(tmp_path / "good")
    with running_secured_redis(certificate=certificate) as server:
        server.client().config_set("repl-diskless-sync-delay", 0)
        server.client().set("key", "value")

        receive(server.url_of("admin"), tmp_path / "received.rdb", Told())
        with pytest.raises(TransientError, match=r"does not answer.*another host"):
            capture_redis(server.url_of("admin", host="127.0.0.1"), name="broker", stage=make_stage(tmp_path / "stage"))

    assert read(tmp_path / "received.rdb").databases[0].keys == 1


def test_a_user_who_may_not_replicate_is_told_what_to_grant(server: RedisServer, tmp_path: Path) -> None:
    """The error names the rights, and nothing secret."""
    server.client().acl_setuser("crew", enabled=True, passwords=["+secretword"], commands=["+info", "+get"])

    with pytest.raises(PermanentError, match=r"\+sync and \+replconf") as caught:
        capture_redis(
            f"redis://crew:secretword@127.0.0.1:{server.port}/0", name="broker", stage=make_stage(tmp_path / "stage")
        )

    assert "secretword" not in str(caught.value)


def test_a_server_that_dies_while_it_sends_is_no_capture(server: RedisServer, tmp_path: Path) -> None:
    """Half a dump is none."""
    _make_saves_slow(server)

    def kill(_phase: str) -> bool:
        server.kill9()
        return False

    with pytest.raises(TransientError, match="before its dump was through"):
        receive(server.url, tmp_path / "received.rdb", Told(kill))


def test_receiving_can_be_called_off(server: RedisServer, tmp_path: Path) -> None:
    """Cancelling passes while the server is still silent, and ends the connection."""
    _make_saves_slow(server)
    server.client().config_set("repl-diskless-sync", "no")  # it sends nothing before its file is written
    told = Told(lambda _: True)

    with pytest.raises(CancelledError):
        receive(server.url, tmp_path / "received.rdb", told)

    assert told.calls == [("receive", 0, None)]
    assert server.client().ping()


def receive(url: str, to: Path, told: Callable[[str, int, int | None], None]) -> str:
    """Receive the dump of a server on a connection of its own."""
    with connect(url, 10.0) as client:
        return receive_dump(client, to, name="broker", tell=lambda done, total: told("receive", done, total))


def _make_saves_slow(server: RedisServer) -> None:
    """Let the next dump take some ten seconds."""
    fill_with_many(server, 2_000)
    server.client().config_set("rdb-key-save-delay", 5_000)
