"""What is written down of a database depends on what its tables hold, and on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tasks.backups.postgresql.comparing import differences
from tasks.backups.store.captures.postgresql import read_expectations
from tests.integration.tasks.backups.postgresql.writing import fill
from workers.database import current_revision

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasks.backups.manifest import Database


@pytest.fixture
def filled(pg_engine: Engine) -> Engine:
    """Give a database with tables of many types, and rows in them."""
    fill(pg_engine.url.render_as_string(hide_password=False))
    return pg_engine


def test_every_table_is_written_down(filled: Engine) -> None:
    """Odd names and partitions too; what has no rows of its own is left out, and nothing else."""
    read = _read(filled)
    tables = {table.name: table for table in read.tables}
    assert tables["things"].rows == 3000
    assert tables['odd % "name" of it'].rows == 2000
    assert tables['odd % "name" of it'].newest == {'the "key" too': "2000"}
    assert (tables["days_old"].rows, tables["days_new"].rows) == (30, 30)
    assert "days" not in tables
    assert all(table.orphans == 0 for table in read.tables)
    assert read.migration_head == current_revision(filled)
    assert read.newest_commit_at is not None
    assert not read.unread


def test_the_order_of_rows_and_the_settings_of_a_role_say_nothing(filled: Engine) -> None:
    """The same rows, stored in another order and shown in another form, are the same."""
    before = _read(filled)
    role = "CURRENT_USER"
    with filled.begin() as connection:
        for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'", "bytea_output = 'escape'"):
            connection.exec_driver_sql(f"ALTER ROLE {role} SET {setting}")
        connection.exec_driver_sql(f"ALTER ROLE {role} SET extra_float_digits = -5")
        connection.exec_driver_sql("CREATE TEMPORARY TABLE kept AS SELECT * FROM things ORDER BY word DESC")
        connection.exec_driver_sql('ALTER TABLE "odd % ""name"" of it" DISABLE TRIGGER ALL'.replace("%", "%%"))
        connection.exec_driver_sql("SET LOCAL session_replication_role = 'replica'")
        connection.exec_driver_sql("DELETE FROM things")
        connection.exec_driver_sql("INSERT INTO things SELECT * FROM kept")
        connection.exec_driver_sql('ALTER TABLE "odd % ""name"" of it" ENABLE TRIGGER ALL'.replace("%", "%%"))
    try:
        filled.dispose()
        assert differences(before, _read(filled)) == []
    finally:
        with filled.begin() as connection:
            connection.exec_driver_sql(f"ALTER ROLE {role} RESET ALL")
        filled.dispose()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE things SET word = word || ' ' WHERE word = 'ä7'", "things has the right number of rows, and other"),
        ("UPDATE things SET raw = NULL WHERE word = 'ä7'", "things has the right number of rows, and other"),
        # What one row loses the other gets: a sum over columns alone would not see it.
        (
            "UPDATE things a SET share = b.share FROM things b WHERE (a.word, b.word) IN (('ä7', 'ä8'), ('ä8', 'ä7'))",
            "things has the right number of rows, and other",
        ),
        ("INSERT INTO days VALUES ('2026-01-15', 46)", "days_new has 31 rows instead of 30"),
        ("DELETE FROM usage_offsets", "usage_offsets has 0 rows instead of 1"),
        ("DROP INDEX things_made_at_idx", "definitions"),
        ("ALTER TABLE things ALTER COLUMN body DROP NOT NULL", "definitions"),
        ("CREATE TABLE more (x int)", "more was not there"),
        ("DROP TABLE usage_incidents", "usage_incidents is missing"),
        ("UPDATE alembic_version SET version_num = '0001'", "migration is 0001"),
    ],
)
def test_any_change_is_seen(filled: Engine, change: str, words: str) -> None:
    """One value, one row, one definition: each is a difference, and named."""
    before = _read(filled)
    with filled.begin() as connection:
        connection.exec_driver_sql(change)
    assert words in " ".join(differences(before, _read(filled)))


def test_rows_that_point_nowhere_are_counted(filled: Engine) -> None:
    """Somebody has switched the check of a foreign key off: how many rows it lost is written down."""
    with filled.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = 'replica'")
        connection.exec_driver_sql(
            'DELETE FROM things WHERE id IN (SELECT thing FROM "odd %% ""name"" of it" ORDER BY 1 LIMIT 7)'
        )
    orphans = {table.name: table.orphans for table in _read(filled).tables}
    assert orphans['odd % "name" of it'] == 7


def test_what_is_still_to_come_is_no_sign_of_life(filled: Engine) -> None:
    """The end of a lease lies in the future: the newest instant of the database is the newest that has been."""
    before = _read(filled).newest_commit_at
    with filled.begin() as connection:
        connection.exec_driver_sql("UPDATE usage_offsets SET updated_at = now() + interval '1 hour'")
    assert _read(filled).newest_commit_at == before


def _read(engine: Engine) -> Database:
    new = sa.create_engine(engine.url, poolclass=sa.NullPool)
    with new.connect() as connection:
        return read_expectations(connection)
