"""Checks of the database: its tables, and how SQLite keeps them."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from workers.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_migrations(pending: Sequence[str], *, up: str) -> Finding:
    """Judge whether the tables are those of this version."""
    if not pending:
        return ok("migrations", "the tables are up to date")
    return error("migrations", f"not applied: {', '.join(pending)}", fix=f"{up}   # migrates before it starts anyone")


def check_journal(path: Path, *, is_wal: bool) -> Finding:
    """Judge how SQLite keeps what is not yet in the file: only in WAL mode do readers and the writer not wait."""
    if is_wal:
        return ok("database-journal", "write-ahead log")
    detail = f"{path} is not in WAL mode: readers stop the drain; a network file system may be the reason"
    return warning("database-journal", detail, fix=f"sqlite3 {quote(str(path))} 'PRAGMA journal_mode = WAL'")
