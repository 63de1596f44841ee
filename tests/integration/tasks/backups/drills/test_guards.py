"""A drill never touches what lives: nothing of it changes, and no sandbox is where something lives."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from redis import Redis

from tasks.backups.drills.verdicts import Verdict
from tasks.backups.operations.drilling import drill_point, list_drills
from tasks.transactions import begin_read, begin_write
from tests.integration.tasks.backups.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.support.redis import RedisServer

WRITTEN = {"drills", "restore_points"}
"""Where a drill writes what it has found."""


@pytest.fixture
def crew(sqlite_engine: Engine, redis_server: RedisServer, tmp_path: Path, seed: int) -> Crew:
    crew = Crew(sqlite_engine, redis_server.client(), tmp_path, seed)
    crew.full()
    return crew


def files_in(*places: Path) -> dict[str, tuple[int, int, str]]:
    """Give mode, time and hash of every file."""
    files = [path for place in places for path in [place, *place.rglob("*")] if path.is_file()]
    return {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }


def rows_of(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Give the rows of every table that a drill has no business in."""
    names = [name for name in sa.inspect(engine).get_table_names() if name not in WRITTEN]
    with begin_read(engine) as connection:
        return {name: [tuple(row) for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"')] for name in names}  # noqa: S608


def content_of(redis: Redis) -> dict[bytes, bytes | None]:
    """Give every key with what Redis itself would write of it."""
    return {key: redis.dump(key) for key in redis.scan_iter()}


def test_nothing_that_lives_is_changed(crew: Crew) -> None:
    """Not a file of the vault, of the keys or of the configuration, not a row, not a key of Redis."""
    vault, keys = crew.directory / "vault", crew.directory / "keys"
    files, rows, keys_of_redis = files_in(vault, keys, crew.config), rows_of(crew.engine), content_of(crew.redis)
    assert drill_point(crew.runtime, "latest").verdict is Verdict.PASS
    assert files_in(vault, keys, crew.config) == files
    assert rows_of(crew.engine) == rows
    assert content_of(crew.redis) == keys_of_redis


def test_what_has_become_of_the_source_does_not_matter(crew: Crew) -> None:
    """Its rows are gone, its configuration is garbage, its Redis is out of reach: the point is what it was."""
    with begin_write(crew.engine) as connection:
        connection.execute(sa.text("DELETE FROM notes"))
    crew.config.write_bytes(b"\0" * 99)
    away = Redis(host="127.0.0.1", port=1, socket_timeout=1)
    drill = drill_point(replace(crew.runtime, redis=away), "latest")
    assert (drill.verdict, drill.reason) == (Verdict.PASS, drill.reason)
    assert crew.notes() == []


def beside_a_link(crew: Crew) -> None:
    crew.options.directory.mkdir(exist_ok=True)
    (crew.options.directory / "drills").symlink_to(crew.directory / "vault")


def in_the_vault(crew: Crew) -> None:
    (crew.directory / "backups").rename(crew.directory / "aside")
    (crew.directory / "backups").symlink_to(crew.directory / "vault")


@pytest.mark.parametrize("collide", [beside_a_link, in_the_vault])
def test_a_sandbox_that_would_be_something_living_is_refused(crew: Crew, collide: Callable[[Crew], None]) -> None:
    """Before anything is restored; it is written down, and says nothing of the point."""
    collide(crew)
    vault = files_in(crew.directory / "vault")
    drill = drill_point(crew.runtime, "latest")
    assert drill.verdict is Verdict.INCONCLUSIVE
    assert "symbolic link" in drill.reason or "would touch" in drill.reason
    assert [one.id for one in list_drills(crew.runtime)] == [drill.id]
    assert [point.proven_at for point in crew.points()] == [None]
    assert files_in(crew.directory / "vault") == vault
