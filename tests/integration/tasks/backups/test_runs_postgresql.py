"""The same runs on PostgreSQL: a full is a dump, an increment a data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from nightcrew.messages import PruneVault
from tasks.backups.staging import Limits
from tasks.backups.store.captures.postgresql import private_server
from tasks.backups.store.captures.postgresql.slots import slot_name
from tasks.backups.store.targets import enterable
from tests.integration.tasks.backups.crew import NOTES, Crew
from tests.support.databases import migrate_database, opened_engine
from tests.support.postgres import PostgresServer
from tests.support.processes import short_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis import RedisServer

_OPTIONS = {
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_slot_wal_keep_size": "2GB",
    "summarize_wal": "on",
}

_KEEP_LOG = sa.text("SELECT pg_create_physical_replication_slot(:name, true)")
_SLOTS = sa.text("SELECT slot_name FROM pg_replication_slots")


@pytest.fixture
def crew(redis_server: RedisServer, seed: int) -> Iterator[Crew]:
    """Give a crew on a server that gives increments, in a directory that the server's account can enter."""
    with short_directory() as place, short_directory() as directory:
        place.chmod(0o755)
        directory.chmod(0o755)
        server = PostgresServer(place, options=_OPTIONS)
        try:
            server.start()
            url = server.url.render_as_string(hide_password=False)
            migrate_database(url)
            with opened_engine(url) as engine:
                yield Crew(engine, redis_server.client(), directory, seed, postgresql_tools=server.programs)
        finally:
            server.close()


def test_a_chain_comes_back_as_it_was(crew: Crew) -> None:
    """The full as a dump for any newer version, the increment as a data directory that was found equal.

    What the server keeps for a profile that is gone from the settings, it lets go with the next pruning.
    """
    full = crew.full()
    with crew.engine.begin() as connection:
        connection.execute(_KEEP_LOG, {"name": slot_name("gone", "postgres")})
    crew.run(PruneVault())
    with crew.engine.begin() as connection:
        assert connection.execute(_SLOTS).all() == []
    crew.change_some()
    notes = crew.notes()
    increment = crew.incremental()
    assert (full["kind"], increment["kind"], increment["sequence"]) == ("full", "incremental", 1), increment
    assert increment["bytes"]["staged"] < full["bytes"]["staged"]
    _, dumped = crew.restore(full["point"])
    assert (dumped / "database" / "dump.pgc").stat().st_size > 0
    report, restored = crew.restore(increment["point"], only=frozenset({"database"}))
    assert report["path"] == [full["point"], increment["point"]]
    cluster = restored / "database" / "cluster"
    with (
        enterable(restored, restored / "database"),
        private_server(
            cluster,
            database="postgres",
            role="postgres",
            tools=crew.postgresql_tools,
            limits=Limits(nice=0, idle_io=False),
            tick=lambda: None,
        ) as url,
        opened_engine(url.render_as_string(hide_password=False)) as engine,
        engine.connect() as connection,
    ):
        assert [tuple(row) for row in connection.execute(sa.text(NOTES))] == notes
