"""Every way to damage a restored dump or a restored file is noticed, and by whom."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa

from nightcrew import wire
from tasks.backups.drills.verdicts import Verdict, judge, kill_rate
from tasks.backups.store.drills.files import FilesExaminer
from tasks.backups.store.drills.redis import RedisExaminer
from tasks.runtime import BackupOptions, ProfileOptions
from tasks.transactions import begin_write
from tests.integration.tasks.backups.crew import Crew
from tests.integration.tasks.backups.drills.subjects import restored_set, silent, table_of, tried
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from tasks.backups.drills.subjects import Examiner
    from tests.support.redis import RedisServer

NOTICED_BY: Final = {
    "redis.broker.drop-a-key": "redis.broker.keys",
    "redis.broker.add-a-key": "redis.broker.keys",
    "redis.broker.change-a-text": "redis.broker.digest",
    "redis.broker.change-a-type": "redis.broker.types",
    "redis.broker.let-a-key-stay": "redis.broker.keys",
    "redis.broker.lose-every-key": "redis.broker.keys",
    "redis.broker.another-log": "redis.broker.log",
    "redis.broker.a-log-that-ends-too-early": "redis.broker.log",
    "redis.broker.a-log-that-begins-too-late": "redis.broker.log",
    "redis.broker.flip-a-bit": "redis.broker.file",
    "redis.broker.truncate": "redis.broker.load",
    "redis.broker.lose-the-file": "redis.broker.file",
    "files.flip-a-bit": "files.content",
    "files.truncate": "files.content",
    "files.append-a-line": "files.content",
    "files.make-empty": "files.content",
    "files.lose-a-file": "files.names",
    "files.add-a-file": "files.names",
    "files.open-to-others": "files.modes",
    "files.swap-two-files": "files.content",
    "files.put-a-link": "files.names",
}
"""Who must notice each; the hash of the file notices everything in a dump as well."""


class CrewOfTwoFiles(Crew):
    """Backs up a file of the application as well."""

    @property
    def options(self) -> BackupOptions:
        return replace(super().options, config_files=(self.config, self.directory / "app.toml"))


def log_entries(redis: Redis, epoch: str) -> str:
    """Write a usage log of three entries; give the id of the second."""
    redis.hset(wire.USAGE_META, mapping={"epoch": epoch, "partitions": "1"})
    ids = [redis.xadd(wire.usage_stream(0), {"v": "1", "n": str(number)}) for number in range(3)]
    second = ids[1]
    return second.decode() if isinstance(second, bytes) else second


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    """Give a crew with a usage log that its database has read in part, keys of several types, and two files."""
    crew = CrewOfTwoFiles(sqlite_engine, redis_server.client(), tmp_path, seed)
    other = tmp_path / "app.toml"
    other.write_text("[app]\nname = 'x'\n")
    other.chmod(0o640)
    epoch = uuid.uuid4().hex
    position = log_entries(crew.redis, epoch)
    with begin_write(sqlite_engine) as connection:
        statement = "INSERT INTO usage_offsets (partition, epoch, last_id, updated_at) VALUES (0, :epoch, :last_id, 1)"
        connection.execute(sa.text(statement), {"epoch": epoch, "last_id": position})
    crew.redis.set("mortal", "soon", ex=3_600)
    crew.redis.rpush("list", "a", "b")
    return crew


def test_every_mutant_is_noticed_by_who_must(crew: Crew) -> None:
    """All of them can be made, nothing is left of them, and each check has one that it must notice."""
    point = restored_set(crew, crew.full()["point"])
    examiners: list[Examiner] = [RedisExaminer(), FilesExaminer()]
    checks = [check for examiner in examiners for check in examiner.examine(point.subject, silent)]
    assert [check.name for check in checks if not check.is_equal] == []
    results = [result for examiner in examiners for result in tried(examiner, point.subject)]
    print(f"\n{table_of(results)}\n{kill_rate(results)} rejected")  # noqa: T201  for whoever runs it with -s
    assert [one.name for one in results if one.not_possible] == []
    assert {one.name for one in results} == NOTICED_BY.keys()
    assert [one.name for one in results if NOTICED_BY[one.name] not in one.noticed_by] == []
    assert {check.name for check in checks} == set(NOTICED_BY.values())
    assert [*point.subject.scratch.iterdir()] == []


def test_a_log_that_was_wiped_before_the_capture_is_no_damage(crew: Crew) -> None:
    """The dump is what was captured; that a replay would not be exact is something to look at."""
    crew.redis.hset(wire.USAGE_META, "epoch", uuid.uuid4().hex)
    point = restored_set(crew, crew.full()["point"])
    checks = {check.name: check for check in RedisExaminer().examine(point.subject, silent)}
    log = checks.pop("redis.broker.log")
    assert "another one than that of the database" in log.unable
    assert all(check.is_equal for check in checks.values())
    assert judge([log, *checks.values()], ()).verdict is Verdict.INCONCLUSIVE


def test_keys_whose_time_is_over_spoil_no_drill(crew: Crew) -> None:
    """A dump keeps them, a server shows them no more: another one is damaged, or it is said to be impossible."""
    crew.redis.set("mortal", "soon", px=400)
    point = restored_set(crew, crew.full()["point"])
    wait_until(lambda: crew.redis.exists("mortal") == 0, timeout_s=10, what="the end of its time")
    assert all(check.is_equal for check in RedisExaminer().examine(point.subject, silent))
    for key in crew.redis.scan_iter():
        assert crew.redis.pttl(key) != -2, "what is tried below is done to keys that are shown"
    assert [one.name for one in tried(RedisExaminer(), point.subject) if one.survived] == []


def test_what_a_point_has_not_is_not_looked_at(crew: Crew) -> None:
    """A profile of the database alone has neither dump nor files, and no mutants of them."""
    crew.profiles["alone"] = ProfileOptions(parts=frozenset({"database"}))
    point = restored_set(crew, crew.full("alone")["point"])
    examiners: list[Examiner] = [RedisExaminer(), FilesExaminer()]
    for examiner in examiners:
        assert list(examiner.examine(point.subject, silent)) == []
        assert list(examiner.mutants(point.subject, silent)) == []
