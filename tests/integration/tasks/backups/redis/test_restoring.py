"""Dumps that come back: equal, and where no server finds them by chance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tasks.backups.manifest import Manifest
from tasks.backups.quarantine import quarantine_note
from tasks.backups.staging import Link
from tasks.backups.store.captures.redis import capture_redis
from tasks.backups.store.captures.redis_restoring import check_dump, restore_dumps
from tasks.backups.store.hashing import DamagedMemberError
from tests.integration.tasks.backups.redis.filling import LIMITS, Told, fill, make_stage
from tests.support import wait_until
from tests.support.redis import RedisServer, running_redis

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.backups.staging import RedisCapture


@pytest.fixture
def link(own_redis_server: RedisServer, tmp_path: Path) -> Link:
    """Give a restore point of a broker full of everything."""
    fill(own_redis_server)
    stage = make_stage(tmp_path / "stage")
    captured = capture_redis(own_redis_server.url, name="broker", stage=stage)
    return Link(manifest=_manifest(captured), directory=stage.directory)


def test_a_dump_goes_to_the_quarantine(link: Link, tmp_path: Path) -> None:
    """It lies where no server looks, as it was taken, beside a note that says why."""
    whole = (link.directory / "redis/broker.rdb").read_bytes()

    (restored,) = restore_dumps(link, tmp_path / "restored", limits=LIMITS, progress=Told())

    assert restored == tmp_path / "restored/quarantine/broker.rdb"
    assert restored.read_bytes() == whole
    note = (restored.parent / "README.txt").read_text(encoding="utf-8")
    assert note == quarantine_note(link.manifest)
    assert "broker.rdb    64 keys" in note


def test_another_dump_is_refused(link: Link, own_redis_server: RedisServer, tmp_path: Path) -> None:
    """One key more or one byte less, and it is not what was taken."""
    (expected,) = link.manifest.redis
    rdb = link.directory / "redis/broker.rdb"
    own_redis_server.client().set("text", "another text")
    stage = make_stage(tmp_path / "later")
    capture_redis(own_redis_server.url, name="broker", stage=stage)

    with pytest.raises(DamagedMemberError, match="digest differ"):
        check_dump(stage.directory / "redis/broker.rdb", expected, limits=LIMITS, progress=Told())

    rdb.write_bytes(rdb.read_bytes()[:-1])
    with pytest.raises(DamagedMemberError, match="bytes"):
        restore_dumps(link, tmp_path / "restored", limits=LIMITS, progress=Told())


def test_digests_of_two_programs_are_not_compared(link: Link) -> None:
    """A server that was updated since writes fractions another way: the counts still have to be equal."""
    (expected,) = link.manifest.redis
    rdb = link.directory / "redis/broker.rdb"
    zero, *others = expected.databases
    fewer = zero.model_copy(update={"keys": zero.keys - 1})
    older = expected.model_copy(update={"digest": "0" * 40, "digest_by": "redis-server 6.9"})

    check_dump(rdb, older, limits=LIMITS, progress=Told())
    with pytest.raises(DamagedMemberError, match="databases differ"):
        check_dump(rdb, older.model_copy(update={"databases": (fewer, *others)}), limits=LIMITS, progress=Told())


def test_the_note_tells_the_truth_about_a_server_with_a_log(link: Link) -> None:
    """A server that keeps a log starts empty on a dump, and does not after the steps of the note."""
    rdb = link.directory / "redis/broker.rdb"

    with running_redis() as server:
        server.stop()
        _forget_log(server)
        (server.directory / "dump.rdb").write_bytes(rdb.read_bytes())
        server.start()
        assert server.client().dbsize() == 0

    with running_redis(options={"appendonly": "no"}) as server:
        server.stop()
        (server.directory / "dump.rdb").write_bytes(rdb.read_bytes())
        server.start()
        client = server.client()
        client.config_set("appendonly", "yes")
        wait_until(lambda: _has_log(server), timeout_s=20, what="the log")
        keys = client.dbsize()
        client.shutdown()
        with running_redis() as broker:
            broker.stop()
            _forget_log(broker)
            (server.directory / "appendonlydir").rename(broker.directory / "appendonlydir")
            broker.start()
            assert broker.client().dbsize() == keys == 13


def _manifest(captured: RedisCapture) -> Manifest:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return Manifest(
        point="0123456789ab",
        run="run",
        profile="default",
        kind="full",
        chain="0123456789ab",
        sequence=0,
        parent=None,
        reason="asked for",
        taken_at=now,
        began_at=now,
        tools=captured.tools,
        members=tuple(captured.members),
        redis=(captured.expected,),
        size_bytes=captured.size_bytes,
    )


def _forget_log(server: RedisServer) -> None:
    for path in (server.directory / "appendonlydir").iterdir():
        path.unlink()
    (server.directory / "appendonlydir").rmdir()


def _has_log(server: RedisServer) -> bool:
    persistence = server.client().info("persistence")
    return bool(persistence["aof_enabled"]) and not persistence["aof_rewrite_in_progress"]
