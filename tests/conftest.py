"""Fixtures of all tests: real servers, engines on fresh databases, a printed seed."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support import databases
from tests.support.leftovers import adopt_orphans, end_leftovers
from tests.support.postgres import PostgresCluster, running_postgres
from tests.support.processes import WITHOUT_BACKUPS
from tests.support.redis import RedisServer, running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

os.environ.update(WITHOUT_BACKUPS)  # for crews and commands; tests of the backups turn them on
hypothesis.settings.register_profile("nightcrew", deadline=None, max_examples=100, print_blob=True)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("nightcrew"), max_examples=2_000)
hypothesis.settings.load_profile("nightcrew")


def pytest_configure() -> None:
    """See every process that the tests start, even one whose parent is gone."""
    adopt_orphans()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session when a process is left."""
    config = session.config
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        found = _left_by_workers  # the children of this process are pytest's own workers, which look for themselves
    else:
        found = end_leftovers()
    if hasattr(config, "workeroutput"):
        config.workeroutput["leftovers"] = found
    elif found:
        _tell_leftovers(session, found)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear of what the tests of a worker have left: its own exit status does not reach the session's."""
    _left_by_workers.extend(getattr(node, "workeroutput", {}).get("leftovers", []))


_left_by_workers: list[str] = []


def _tell_leftovers(session: pytest.Session, found: list[str]) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("")
        reporter.write_line("processes left behind by the tests (killed now):\n  " + "\n  ".join(found), red=True)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def _shared_redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis_server: RedisServer) -> RedisServer:
    """Give an empty Redis server, shared by the session: not to be stopped or configured."""
    _shared_redis_server.flush()
    return _shared_redis_server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """Give a Redis server on a unix socket that the test may kill, freeze and configure."""
    with running_redis() as server:
        yield server


@pytest.fixture
def tcp_redis_server() -> Iterator[RedisServer]:
    """Give a Redis server on a loopback port that the test may kill, freeze and configure."""
    with running_redis(tcp=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """Give the PostgreSQL server of the session."""
    with running_postgres() as cluster:
        yield cluster


@pytest.fixture
def pg_url(postgres_cluster: PostgresCluster) -> Iterator[str]:
    """Give the address of a fresh, migrated PostgreSQL database."""
    with postgres_cluster.database(databases.migrate_database) as url:
        yield url


@pytest.fixture
def pg_engine(pg_url: str) -> Iterator[Engine]:
    """Give an engine on a fresh, migrated PostgreSQL database."""
    with databases.opened_engine(pg_url) as engine:
        yield engine


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the address of a fresh, migrated SQLite file."""
    url = f"sqlite:///{tmp_path / 'nightcrew.db'}"
    databases.migrate_database(url)
    return url


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    """Give an engine on a fresh, migrated SQLite file."""
    with databases.opened_engine(sqlite_url) as engine:
        yield engine


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Give an engine on a fresh, migrated database; the test runs once on each kind."""
    fixture = {"sqlite": "sqlite_engine", "postgresql": "pg_engine"}[request.param]
    found: Engine = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Give a random seed that a failure shows; `NIGHTCREW_TEST_SEED` repeats a run."""
    chosen = int(os.environ.get("NIGHTCREW_TEST_SEED") or random.SystemRandom().getrandbits(32))
    request.node.add_report_section("setup", "seed", f"repeat with NIGHTCREW_TEST_SEED={chosen}")
    return chosen
