"""Apps, workers and Redis are killed while the access log is written and collected: the counters stay exact."""

from __future__ import annotations

import random
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from nightcrew import wire
from tasks.ttl.tables import AccessIncident
from tests.integration.tasks.ttl.conftest import AccessCrew
from tests.support import wait_until
from tests.support.processes import SpawnedProcess, spawned
from tests.support.redis import running_redis
from tests.support.waiting import pause

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.support.redis import RedisServer

_ROLE = [sys.executable, "-m", "tests.integration.tasks.ttl.collecting_process"]


def lines_of(process: SpawnedProcess, word: str) -> list[int]:
    told = [line for line in process.output().splitlines(keepends=True) if line.endswith("\n")]
    return [int(line.split()[1]) for line in told if line.startswith(word)]


def has_told(process: SpawnedProcess, word: str, many: int) -> bool:
    assert process.is_running(), process.output()[-2_000:]
    return len(lines_of(process, word)) >= many


class Life:
    """Apps and workers on one Redis and one database, all of which may be killed."""

    def __init__(self, server: RedisServer, database_url: str, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.asked = 0
        self.logged = 0
        self._worker = [*_ROLE, "worker", server.url, database_url]

    def round(self, *, breaks: bool, wipes: bool) -> None:
        """Kill a worker, its successor, the app, and Redis in between; note what the app has told of."""
        app_command = [*_ROLE, "app", self.server.url, str(self.rng.random())]
        with spawned(app_command) as app:
            with spawned(self._worker) as worker:
                wait_until(partial(has_told, worker, "collected", self.rng.randrange(1, 5)), timeout_s=30, what="work")
                worker.kill()
            with spawned(self._worker) as successor:
                wait_until(partial(has_told, successor, "collected", 2), timeout_s=30, what="work")
                if breaks:
                    self._break(wipes=wipes)
                told = len(lines_of(app, "logged"))
                wait_until(partial(has_told, app, "logged", told + 3), timeout_s=30, what="flushes")
                successor.kill()
            app.kill()
            self.asked += max(lines_of(app, "asked"))
            self.logged += max(lines_of(app, "logged"))

    def _break(self, *, wipes: bool) -> None:
        self.server.kill9()
        pause(self.rng.random() / 10)
        self.server.start()
        if wipes:
            self.server.flush()


def incidents(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(AccessIncident.kind)).scalars())


@pytest.mark.parametrize("wipes", [False, pytest.param(True, marks=pytest.mark.long)], ids=["kept", "wiped"])
def test_counters_are_exact_whoever_is_killed(engine: Engine, seed: int, *, wipes: bool) -> None:
    """No operation that was logged is lost or doubled, over kills of everybody; only a wiped Redis takes some along.

    What an app had asked for and not flushed when it was killed may be counted or not, but never more than it asked.
    """
    database_url = engine.url.render_as_string(hide_password=False)
    # Redis promises nothing about its last second otherwise.
    with running_redis(options={"appendfsync": "always"}) as server:
        life = Life(server, database_url, random.Random(seed))
        for number in range(2):
            life.round(breaks=number == 1, wipes=wipes)
        crew = AccessCrew(server.client(), engine)
        crew.collect()
        sums = crew.counted()["defaults"]
        assert sums["requests"] == sums["hits"] + sums["misses"]
        assert sums["requests"] + sums["dropped"] <= life.asked
        assert incidents(engine) == (["epoch_changed"] if wipes else [])
        if not wipes:
            told: Any = crew.redis.hget(wire.ACCESS_TOTALS, "logged:defaults")
            assert life.logged <= sums["requests"] == int(told)
            assert sums["dropped"] == 0
