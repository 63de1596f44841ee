"""A broker and a cache that are one server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.backups.operations.sources import CrewSources
from tasks.backups.staging import Limits, Stage
from tasks.runtime import NoAttempt
from tests.integration.tasks.backups.crew import options_in, runtime_of
from tests.support.redis import running_redis
from tests.support.restic import go_on

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


def test_a_server_that_is_broker_and_cache_is_taken_once(sqlite_engine: Engine, tmp_path: Path) -> None:
    """Whatever its address looks like: its dump holds all of its databases. Another server is taken beside it."""
    with running_redis(tcp=True) as broker, running_redis() as other:
        cases = ((broker.url.replace("127.0.0.1", "localhost"), ["broker"]), (other.url, ["broker", "cache"]))
        for number, (cache_url, expected) in enumerate(cases):
            options = replace(options_in(tmp_path), cache_url=cache_url)
            runtime = runtime_of(sqlite_engine, broker.client(), options, NoAttempt())
            directory = tmp_path / f"stage-{number}"
            directory.mkdir()
            stage = Stage(directory=directory, progress=go_on, limits=Limits(nice=0, idle_io=False))
            taken = CrewSources(runtime=runtime, options=options, profile="default").redis(stage)
            assert [one.expected.name for one in taken] == expected
