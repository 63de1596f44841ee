"""The chain of migrations ends at the tables that the slices declare."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, MetaData, Table, insert, inspect, text
from sqlalchemy.exc import DataError, IntegrityError

import tasks.backups.tables
import tasks.ledger.tables  # noqa: F401  the same
from tasks.errors import PermanentError
from tasks.ledger.filters import Filter
from tasks.ledger.states import State
from tasks.ledger.store import runs, selecting
from tasks.schema import Base
from tasks.usage.tables import UsageCount
from workers import database
from workers.database import begin_read, begin_write, create_engine, current_revision, migrate, pending_migrations

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006", "0007"]

_MIGRATE = """
import sys
from workers.database import create_engine, migrate
sys.stdin.read(1)
print(*migrate(create_engine(sys.argv[1])))
"""


_INSTANT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST_RELEASE: dict[str, dict[str, object]] = {
    "job_runs": {
        "id": "01931f2e-5f6a-7abc-8def-0123456789ab",
        "kind": "ledger.canary",
        "queue": "nightcrew.ledger",
        "dedup_key": "canary:2026-03-01T12:00:00+00:00",
        "payload": {"note": "x"},
        "state": "dead",
        "revision": 9,
        "attempt": 4,
        "max_attempts": 4,
        "fence": 4,
        "error": "4 of 4 attempts are used up",
        "correlation_id": "request-7",
        **dict.fromkeys(("enqueued_at", "queued_at", "republish_at", "updated_at"), _INSTANT),
    },
    "dead_letters": {
        "source": "nightcrew.ledger",
        "source_id": "nightcrew:dead-letters/1-0",
        "reason": "no such kind",
        "body": "{}",
        "received_at": _INSTANT,
    },
    "usage_counts": {"key": "mail.greeting", "context": "fr", "total": 7, "accepted": 3, "rejected": 1},
}


def as_stored(value: object, *, has_instants: bool) -> object:
    return value if has_instants or not isinstance(value, datetime) else round(value.timestamp() * 1_000_000)


def first_release_rows(engine: Engine) -> list[tuple[object, ...]]:
    with begin_read(engine) as connection:
        return [
            tuple(connection.execute(text(f"SELECT {', '.join(row)} FROM {table}")).one())  # noqa: S608  our own names
            for table, row in FIRST_RELEASE.items()
        ]


def definitions(engine: Engine) -> dict[str, str]:
    with begin_read(engine) as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'"))
        # SQLite writes an added column into the statement of its table without the line break of the others.
        return {row.name: " ".join((row.sql or "").split()) for row in rows}


def downgrade(engine: Engine) -> None:
    with begin_write(engine) as connection:
        config = database._alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def upgrade_to(engine: Engine, revision: str) -> None:
    with begin_write(engine) as connection:
        config = database._alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_migrations_make_the_declared_tables(empty_engine: Engine) -> None:
    """Alembic finds no difference between the migrated database and the slices' tables."""
    migrate(empty_engine)
    with begin_read(empty_engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_sqlite_statements_are_the_same(tmp_path: Path) -> None:
    """What alembic does not compare is equal too: WITHOUT ROWID, checks, names, order of columns."""
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    declared = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    migrate(migrated)
    Base.metadata.create_all(declared)
    assert definitions(migrated) == definitions(declared)
    migrated.dispose()
    declared.dispose()


def test_checks_have_their_names(empty_engine: Engine) -> None:
    """Every declared CHECK is in the database under the name that the convention gives it."""
    migrate(empty_engine)
    found = inspect(empty_engine)
    for table in Base.metadata.sorted_tables:
        declared = {str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)}
        assert {one["name"] for one in found.get_check_constraints(table.name)} == declared


def test_down_and_up_again(empty_engine: Engine) -> None:
    """The way down leaves nothing but alembic's own table, and the way up works again."""
    migrate(empty_engine)
    before = set(inspect(empty_engine).get_table_names())
    downgrade(empty_engine)
    assert set(inspect(empty_engine).get_table_names()) == {"alembic_version"}
    assert migrate(empty_engine) == REVISIONS
    assert set(inspect(empty_engine).get_table_names()) == before


def test_rows_of_the_first_release_stay(empty_engine: Engine) -> None:
    """A database of the first release keeps every field of its rows, and its runs may be tried again."""
    upgrade_to(empty_engine, "0001")
    with begin_write(empty_engine) as connection:
        for table, row in FIRST_RELEASE.items():
            old = Table(table, MetaData(), autoload_with=connection)
            has_instants = connection.dialect.name == "postgresql"
            values = {name: as_stored(value, has_instants=has_instants) for name, value in row.items()}
            connection.execute(insert(old).values(values))
    before = first_release_rows(empty_engine)
    assert migrate(empty_engine) == REVISIONS[1:]
    assert first_release_rows(empty_engine) == before
    [run] = selecting.newest(empty_engine, Filter(), limit=2)
    assert (run.state, run.watched, run.entry, run.is_late) == (State.DEAD, False, None, None)
    assert runs.restart(empty_engine, run, now=run.updated_at) is not None


def test_pending_until_migrated(empty_engine: Engine) -> None:
    """Pending migrations are listed, then applied once."""
    assert current_revision(empty_engine) is None
    assert pending_migrations(empty_engine) == REVISIONS
    assert migrate(empty_engine) == REVISIONS
    assert migrate(empty_engine) == []
    assert pending_migrations(empty_engine) == []
    assert current_revision(empty_engine) == REVISIONS[-1]


def test_looking_creates_no_file(tmp_path: Path) -> None:
    """Asking for pending migrations leaves an empty data directory empty."""
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")
    assert pending_migrations(engine) == REVISIONS
    assert list(tmp_path.iterdir()) == []


def test_newer_database_is_refused(empty_engine: Engine) -> None:
    """A database that a newer version migrated is left alone, and the error says so."""
    migrate(empty_engine)
    with begin_write(empty_engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for look in (migrate, pending_migrations):
        with pytest.raises(PermanentError, match=r"'9999'.*newer"):
            look(empty_engine)


def test_failed_migration_leaves_nothing(empty_engine: Engine) -> None:
    """A step that breaks in the middle takes back the tables it had made, on SQLite too."""
    with begin_write(empty_engine) as connection:
        connection.execute(text("CREATE TABLE dead_letters (in_the_way INTEGER)"))  # the last table of the step
    with pytest.raises(Exception, match="already exists"):
        migrate(empty_engine)
    assert inspect(empty_engine).get_table_names() == ["dead_letters"]


def test_processes_migrate_at_once(empty_engine: Engine) -> None:
    """Of several processes that migrate at the same moment one does the work, and none fails."""
    url = empty_engine.url.render_as_string(hide_password=False)
    argv = [sys.executable, "-c", _MIGRATE, url]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(argv, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("g")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert sorted(out.strip() for out, _ in answers) == ["", "", " ".join(REVISIONS)], [error for _, error in answers]


@pytest.mark.parametrize("sums", ["total = total + 1", "accepted = accepted + 1", "total = -1"])
def test_counts_stay_counts(engine: Engine, sums: str) -> None:
    """A sum beyond 64 bits, more outcomes than uses, and a negative total are all refused."""
    row = {"key": "k", "context": "", "total": 2**63 - 1, "accepted": 2**63 - 1, "rejected": 0}
    with begin_write(engine) as connection:
        connection.execute(insert(UsageCount).values(row))
    with pytest.raises((IntegrityError, DataError)), begin_write(engine) as connection:
        connection.execute(text(f"UPDATE usage_counts SET {sums}"))  # noqa: S608  the three texts above
    with begin_read(engine) as connection:
        assert connection.execute(text("SELECT total FROM usage_counts")).scalar_one() == 2**63 - 1
