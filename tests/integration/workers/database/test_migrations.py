"""The chain of migrations ends at the tables that the slices declare."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, insert, inspect, text
from sqlalchemy.exc import DataError, IntegrityError

import tasks.ledger.tables  # noqa: F401  declares its tables on the shared metadata
from tasks.errors import PermanentError
from tasks.schema import Base
from tasks.usage.tables import UsageCount
from workers import database
from workers.database import begin_read, begin_write, create_engine, current_revision, migrate, pending_migrations

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

_MIGRATE = """
import sys
from workers.database import create_engine, migrate
sys.stdin.read(1)
print(*migrate(create_engine(sys.argv[1])))
"""


def definitions(engine: Engine) -> dict[str, str]:
    with begin_read(engine) as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'"))
        return {row.name: row.sql for row in rows}


def downgrade(engine: Engine) -> None:
    with begin_write(engine) as connection:
        config = database._alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


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
    assert migrate(empty_engine) == ["0001"]
    assert set(inspect(empty_engine).get_table_names()) == before


def test_pending_until_migrated(empty_engine: Engine) -> None:
    """Pending migrations are listed, then applied once."""
    assert current_revision(empty_engine) is None
    assert pending_migrations(empty_engine) == ["0001"]
    assert migrate(empty_engine) == ["0001"]
    assert migrate(empty_engine) == []
    assert pending_migrations(empty_engine) == []
    assert current_revision(empty_engine) == "0001"


def test_looking_creates_no_file(tmp_path: Path) -> None:
    """Asking for pending migrations leaves an empty data directory empty."""
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")
    assert pending_migrations(engine) == ["0001"]
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
    assert sorted(out.strip() for out, _ in answers) == ["", "", "0001"], [error for _, error in answers]


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
