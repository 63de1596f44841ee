"""Chains of small SQLite databases without a vault: captured, and restored as a drill has them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.backups.drills.subjects import Subject
from tasks.backups.manifest import FILE_NAME
from tasks.backups.staging import Limits, Stage
from tasks.backups.store.captures.sqlite import capture_sqlite
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tests.integration.tasks.backups.sqlite.capturing import Taken, silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "database/nightcrew.db"


@dataclass
class Chain:
    """A database, and the points that were taken of it."""

    directory: Path
    journal_mode: str = "WAL"
    taken: list[Taken] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.directory / "source.db"

    def do(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.source, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode = {self.journal_mode}")
            for statement in statements:
                connection.execute(statement)

    def take(self) -> Taken:
        """Take a point on the one before it."""
        parent = self.taken[-1] if self.taken else None
        directory = self.directory / f"point-{len(self.taken)}"
        directory.mkdir()
        stage = Stage(directory=directory, progress=silent)
        capture = capture_sqlite(
            self.source, stage, parent=parent.as_parent if parent else None, most_changed_share=1.0
        )
        taken = Taken(capture, directory, parent)
        more = {"log_positions": tuple(capture.log_positions), "is_unchanged": capture.is_unchanged}
        taken.manifest = taken.manifest.model_copy(update=more)
        self.taken.append(taken)
        return taken

    def subject(self) -> Subject:
        """Restore the newest point."""
        restored, scratch = self.directory / "restored", self.directory / "scratch"
        (restored / FILE).parent.mkdir(parents=True)
        scratch.mkdir()
        links = [taken.link for taken in self.taken]
        restore_sqlite(links, restored / FILE, progress=silent)
        manifest = self.taken[-1].manifest
        (restored / FILE_NAME).write_bytes(manifest.to_json())
        return Subject(manifest=manifest, restored=restored, scratch=scratch, links=links, limits=Limits())


def damaged(subject: Subject, harm: Callable[[sqlite3.Connection], object]) -> None:
    """Do something to the restored database itself."""
    with closing(sqlite3.connect(subject.restored / FILE)) as connection:
        harm(connection)
        connection.commit()
