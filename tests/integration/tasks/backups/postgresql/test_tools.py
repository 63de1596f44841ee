"""Tools are taken in the version that fits the server, wherever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tasks.backups.store.captures.postgresql.sessions import libpq_environment
from tasks.backups.store.captures.postgresql.tools import find_tools
from tasks.backups.store.programs import ProgramMissingError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_newer_tool_serves_an_older_server(tmp_path: Path) -> None:
    """The dump may be newer than the server, never older; what reads files of the server has its very version."""
    for name, version in {
        "pg_dump": "17.2",
        "pg_basebackup": "15.9",
        "pg_combinebackup": "17.2",
        "postgres": "16.4",
    }.items():
        _write_tool(tmp_path, name, f"{name} (PostgreSQL) {version} (Debian 1)")
    tools = find_tools(tmp_path, server_major=16)
    assert tools.majors == {"pg_dump": 17, "postgres": 16}
    assert tools.found["pg_dump"].version == "17.2"


@pytest.mark.parametrize(
    ("name", "command"),
    [("pg_dump", "sudo apt-get install postgresql-client-16"), ("postgres", "sudo apt-get install postgresql-16")],
)
def test_a_missing_tool_is_a_command_that_installs_it(tmp_path: Path, name: str, command: str) -> None:
    """Empty directories, programs that are none, and programs of something else are all the same: not there."""
    _write_tool(tmp_path, "pg_dump", "pg_dump of another world 99")
    (tmp_path / "postgres").write_bytes(b"\0")
    (tmp_path / "postgres").chmod(0o755)
    with pytest.raises(ProgramMissingError, match=command):
        find_tools(tmp_path, server_major=16).path(name)


def test_tools_are_told_everything_by_their_environment() -> None:
    """All of an address, the password with odd characters too; what it leaves out is not made up."""
    url = sa.make_url(
        "postgresql+psycopg://me:p%40ss%20%3Aw@db.example:5433/live?sslmode=verify-full&sslrootcert=/ca.pem"
    )
    told = libpq_environment(url)
    expected = {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "me",
        "PGPASSWORD": "p@ss :w",
        "PGDATABASE": "live",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.pem",
        "LC_ALL": "C",
    }
    assert expected.items() <= told.items()
    assert "PGPASSWORD" not in libpq_environment(sa.make_url("postgresql://me@/live?host=/run/pg"))


def _write_tool(directory: Path, name: str, answer: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (directory / name).chmod(0o755)
