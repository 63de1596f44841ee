"""Servers that give increments in each of the ways there are, for the session."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.tasks.backups.postgresql.points import execute, points_on
from tests.support.postgres import PostgresServer
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.tasks.backups.postgresql.points import Points

    StartServer = Callable[[str], PostgresServer]

_OLD = Path("/usr/lib/postgresql/15/bin")
_LOG = {"full_page_writes": "on", "wal_level": "replica", "max_slot_wal_keep_size": "2GB"}
_SERVERS = {
    "blocks": {**_LOG, "summarize_wal": "on"},
    "log": {**_LOG, "summarize_wal": "off"},
    "log of 15": _LOG,
    "neither": {"full_page_writes": "on", "summarize_wal": "off", "max_slot_wal_keep_size": "-1"},
}
WAYS = ["blocks", "log", *(["log of 15"] if _OLD.exists() else [])]


@pytest.fixture(scope="session")
def start_server() -> Iterator[StartServer]:
    """Give what starts one of the servers, once a session."""
    running: dict[str, PostgresServer] = {}
    with ExitStack() as stack:

        def start(name: str) -> PostgresServer:
            if name not in running:
                directory = stack.enter_context(short_directory())
                directory.chmod(0o755)
                programs = _OLD if name.endswith("15") else None
                server = PostgresServer(directory, options=_SERVERS[name], programs=programs)
                stack.callback(server.close)
                server.start()
                _make_small(server)
                running[name] = server
            return running[name]

        yield start


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory that the account that runs PostgreSQL can enter."""
    with short_directory() as made:
        made.chmod(0o755)
        yield made


@pytest.fixture
def points_of(start_server: StartServer, directory: Path) -> Iterator[Callable[[str], Points]]:
    """Give what makes a database on one of the servers, with tables and rows, to take points of."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(points_on(start_server(name), directory))


@pytest.fixture(params=WAYS)
def points(request: pytest.FixtureRequest, points_of: Callable[[str], Points]) -> Points:
    """Give a database to take points of; the test runs for each way of taking increments."""
    return points_of(request.param)


def _make_small(server: PostgresServer) -> None:
    """Drop a database that no test needs: each one is three hundred files in each base backup."""
    execute(server, "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'")
    execute(server, "DROP DATABASE template0")
