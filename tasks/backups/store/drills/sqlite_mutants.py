"""Copies of a restored SQLite database that must be rejected: damaged by statements, in their bytes, or older ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.subjects import Mutant
from tasks.backups.store.captures.sqlite_copying import reading
from tasks.backups.store.captures.sqlite_restoring import restore_sqlite
from tasks.backups.store.drills.copies import chance, copy_file, flip_bit, trial_directory
from tasks.backups.store.drills.sqlite_damages import BY_STATEMENTS, NothingToDamageError, Planner, damage
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.drills.verdicts import Check
    from tasks.backups.staging import Link, Progress
    from tasks.backups.store.drills.sqlite_damages import Plan

    Examine = Callable[[Subject, Progress], Sequence[Check]]
    Harm = Callable[[Path], None]
    """Damages the copy at a path."""

_OLDER: Final = "older-point"
_BITS: Final = 8
_HEADER_BYTES: Final = 100
_PAGE_BYTES_AT: Final = slice(16, 18)
_LARGEST_PAGE: Final = 65_536


def mutants_of(subject: Subject, file: str, examine: Examine, progress: Progress) -> Sequence[Mutant]:
    """Name the ways to damage the database at `file` of a restored set.

    Raises:
        PermanentError: it cannot be read.
        TransientError: the machine was in the way.
    """
    trials = _Trials(subject=subject, file=file, examine=examine, progress=progress)
    return [
        *(trials.by_statements(name, plan) for name, plan in BY_STATEMENTS.items()),
        *(trials.by_harm(name, harm) for name, harm in _BY_BYTES.items()),
        trials.older_point(),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    subject: Subject
    file: str
    examine: Examine
    progress: Progress

    def by_statements(self, damage_name: str, plan: Callable[[Planner], Plan]) -> Mutant:
        """Plan a damage now, on the restored database, so that it is known whether it is possible."""
        name = f"sqlite.{damage_name}"
        with reading(self.subject.restored / self.file, lambda: self.progress("planning", 0)) as connection:
            try:
                planned = plan(Planner(connection, chance(self.subject, name)))
            except NothingToDamageError as nothing:
                return self._mutant(name, lambda _: None, not_possible=str(nothing))
            except sqlite3.OperationalError as error:
                if "decode" not in str(error):
                    raise
                return self._mutant(name, lambda _: None, not_possible="a text is not written in UTF-8")

        def harm(copy: Path) -> None:
            try:
                with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                    damage(connection, planned)
            except sqlite3.Error as error:
                msg = f"{name} could not be done: {error}"
                raise PermanentError(msg) from error

        return self._mutant(name, harm)

    def by_harm(self, damage_name: str, harm: Callable[[Path, Callable[[int], int]], None]) -> Mutant:
        name = f"sqlite.{damage_name}"
        return self._mutant(name, lambda copy: harm(copy, chance(self.subject, name).randrange))

    def older_point(self) -> Mutant:
        """Put the database of an earlier point of the chain in place of the right one."""
        name = f"sqlite.{_OLDER}"
        older = _older(self.subject.links, self.subject)
        if not older:
            reason = "the point is a full" if len(self.subject.links) < 2 else "no earlier point of the chain differs"  # noqa: PLR2004
            return self._mutant(name, lambda _: None, not_possible=reason)

        def harm(copy: Path) -> None:
            copy.unlink()
            restore_sqlite(older, copy, progress=self.progress)

        return self._mutant(name, harm)

    def _mutant(self, name: str, harm: Harm, *, not_possible: str = "") -> Mutant:
        return Mutant(name=name, artefact="sqlite", trial=lambda: self._try(harm), not_possible=not_possible)

    def _try(self, harm: Harm) -> Sequence[Check]:
        with trial_directory(self.subject.scratch) as directory:
            copy = directory / self.file
            copy_file(self.subject.restored / self.file, copy, self.progress)
            harm(copy)
            return self.examine(replace(self.subject, restored=directory), self.progress)


def _older(links: Sequence[Link], subject: Subject) -> Sequence[Link]:
    """Give the chain up to the newest earlier point whose database was another file."""
    last = subject.manifest.database
    for end in range(len(links) - 1, 0, -1):
        database = links[end - 1].manifest.database
        if last is None or database is None or database.file_sha256 != last.file_sha256:
            return links[:end]
    return ()


def _flip_bit(copy: Path, below: Callable[[int], int]) -> None:
    flip_bit(copy, below(copy.stat().st_size), below(_BITS))


def _garble_page(copy: Path, below: Callable[[int], int]) -> None:
    """Write nonsense over the head of a page with rows: the file keeps its length, and a table cannot be read."""
    with closing(sqlite3.connect(copy)) as connection:
        roots = [page for (page,) in connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'table'")]
    with copy.open("r+b") as file:
        size = int.from_bytes(file.read(_HEADER_BYTES)[_PAGE_BYTES_AT], "big")
        page_bytes = _LARGEST_PAGE if size == 1 else size
        pages = [page for page in roots if page > 1] or [2]
        file.seek((pages[below(len(pages))] - 1) * page_bytes)
        file.write(b"\xff" * 12)


def _truncate(copy: Path, below: Callable[[int], int]) -> None:
    size_bytes = copy.stat().st_size
    with copy.open("r+b") as file:
        file.truncate(size_bytes // 2 + below(size_bytes // 2))


def _make_empty(copy: Path, below: Callable[[int], int]) -> None:
    del below
    with copy.open("r+b") as file:
        file.truncate(0)


def _lose(copy: Path, below: Callable[[int], int]) -> None:
    del below
    copy.unlink()


def _leave_log(copy: Path, below: Callable[[int], int]) -> None:
    """Leave a log beside it, with changes that whoever opens it finds, while no byte of the file itself differs."""
    other = copy.with_name("other")
    copy_file(copy, other, _no_progress)
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(f"CREATE TABLE added_by_a_log (number INTEGER DEFAULT {below(1 << 30)})")
        other.with_name("other-wal").rename(copy.with_name(f"{copy.name}-wal"))
    other.unlink()


def _no_progress(phase: str, done: int, total: int | None = None) -> None:
    """Go on."""


_BY_BYTES: Final[Mapping[str, Callable[[Path, Callable[[int], int]], None]]] = {
    "flip-a-bit-of-the-file": _flip_bit,
    "garble-a-page": _garble_page,
    "truncate-the-file": _truncate,
    "make-the-file-empty": _make_empty,
    "lose-the-file": _lose,
    "a-log-beside-the-file": _leave_log,
}
