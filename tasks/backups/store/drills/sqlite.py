"""A restored SQLite database, compared with its manifest for equality.

sqlite.file            every byte of the file, by its SHA-256
sqlite.alone           nothing lies beside it: a log there would change what an application reads of it
sqlite.integrity       what SQLite itself finds wrong: all of it, or of a large one what is quickly found
sqlite.schema, .migration-head, .newest, .log-positions
sqlite.content         the rows of each table: counted and hashed, or of a large one counted
sqlite.content.<name>  an empty table: 0 rows were checked there, which is no pass
sqlite.foreign-keys    how many rows point nowhere, by table

Large databases are looked at by their bytes, not by their rows: equal bytes are equal rows, and the manifest's hash is
that of the copy whose rows were read when it was captured. The hash is worked out anew although the restore has just
done it: a validation that believes the restore would not notice what the restore gets wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.backups.drills.verdicts import Check
from tasks.backups.store.captures.sqlite_copying import DamagedSourceError, reading
from tasks.backups.store.captures.sqlite_orphans import count_orphans
from tasks.backups.store.captures.sqlite_reading import read_contents
from tasks.backups.store.drills.sqlite_mutants import mutants_of
from tasks.backups.store.hashing import sha256_of
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from sqlite3 import Connection

    from tasks.backups.drills.subjects import Mutant, Subject
    from tasks.backups.drills.verdicts import Artefact
    from tasks.backups.manifest import Database, Table
    from tasks.backups.staging import Progress
    from tasks.backups.store.captures.sqlite_reading import Contents

_FILE: Final = "database/nightcrew.db"
_READ_WHOLE_BELOW_BYTES: Final = 256 * 1024 * 1024
_FIRST_LINES: Final = 3
_MOST_SAID: Final = 10
"""Differences of one check; the others are counted."""


class SqliteExaminer:
    """Looks at a restored SQLite database."""

    artefact: Artefact = "sqlite"

    def __init__(self, *, file: str = _FILE, read_whole_below_bytes: int = _READ_WHOLE_BELOW_BYTES) -> None:
        """Know where a restore puts it, and up to which size each row is read."""
        self._file, self._read_whole_below_bytes = file, read_whole_below_bytes

    def examine(self, subject: Subject, progress: Progress) -> Sequence[Check]:
        """Compare it with the manifest; nothing, if the point has no SQLite database."""
        expected = subject.manifest.database
        if expected is None or expected.engine != "sqlite":
            return ()
        file = subject.restored / self._file
        if not file.is_file():
            return [_check("file", 1, "bytes", [f"there is no database at {self._file}"])]
        # By what it must be, not by what it is: a file that lost its end is looked at as the whole one would be.
        is_whole = (expected.file_bytes or 0) <= self._read_whole_below_bytes
        examination = _Examination(file=file, subject=subject, expected=expected, is_whole=is_whole, progress=progress)
        return examination.checks()

    def mutants(self, subject: Subject, progress: Progress) -> Sequence[Mutant]:
        """Name the ways to damage it."""
        database = subject.manifest.database
        if database is None or database.engine != "sqlite":
            return ()
        return mutants_of(subject, self._file, self.examine, progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examination:
    """One look at one file."""

    file: Path
    subject: Subject
    expected: Database
    is_whole: bool
    progress: Progress

    def checks(self) -> list[Check]:
        bytes_check = self._bytes()
        is_same_file = not bytes_check.differences
        return [
            bytes_check,
            self._alone(),
            self._looked("integrity", is_same_file, self._integrity),
            *self._contents(is_same_file),
        ]

    def _bytes(self) -> Check:
        size_bytes = self.file.stat().st_size
        found = sha256_of(self.file, tick=lambda done: self.progress("hashing", done, size_bytes))
        pairs = {"bytes": (size_bytes, self.expected.file_bytes), "sha256": (found, self.expected.file_sha256)}
        return _check("file", max(size_bytes, 1), "bytes", _unequal(pairs))

    def _alone(self) -> Check:
        there = sorted(path.name for path in self.file.parent.iterdir() if path.name.startswith(self.file.name))
        others = [name for name in there if name != self.file.name]
        said = [f"{name} lies beside the database, and whoever opens that may read it too" for name in others]
        return _check("alone", len(there), "files", said)

    def _integrity(self) -> Check:
        pragma = "integrity_check" if self.is_whole else "quick_check"
        with self._reading() as connection:
            said = [" ".join(str(line).split()) for (line,) in connection.execute(f"PRAGMA {pragma}({_FIRST_LINES})")]
            [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
        return _check("integrity", pages, "pages", [] if said == ["ok"] else said)

    def _contents(self, is_same_file: bool) -> list[Check]:  # noqa: FBT001  passed on
        """Compare everything that one pass over the rows finds out."""
        others = ("schema", "migration-head", "newest", "log-positions", "foreign-keys")
        found: list[Contents] = []

        def read() -> Check:
            contents = read_contents(
                self.file, until=self.subject.manifest.taken_at, is_whole=self.is_whole, progress=self.progress
            )
            found.append(contents)
            return self._content(contents)

        content = self._looked("content", is_same_file, read)
        if not found:
            return [
                content,
                *(_check(name, 0, unable="the rows cannot be read: see sqlite.content") for name in others),
            ]
        [contents] = found
        return [
            content,
            *self._empty_tables(contents),
            self._looked("schema", is_same_file, lambda: self._schema(contents)),
            self._migration_head(contents),
            self._newest(contents),
            self._log_positions(contents),
            self._looked("foreign-keys", is_same_file, lambda: self._foreign_keys(contents)),
        ]

    def _content(self, contents: Contents) -> Check:
        here, there = _by_name(contents.tables), _by_name(self.expected.tables)
        said = []
        for name in sorted(here.keys() | there.keys()):
            if name not in here or name not in there:
                said.append(f"table {name}: {'missing' if name not in here else 'not expected'}")
                continue
            found, expected = here[name], there[name]
            pairs = {"rows": (found.rows, expected.rows)}
            said += _unequal(pairs, f"table {name}: ")
            if self.is_whole and expected.fingerprint is not None and found.fingerprint != expected.fingerprint:
                said.append(
                    f"table {name}: the content of {found.rows} rows is not that of the {expected.rows} captured"
                )
        rows = sum(table.rows for table in contents.tables)
        is_read = self.is_whole and all(table.fingerprint is not None for table in self.expected.tables)
        return _check("content", rows, "rows" if is_read else "rows counted", said)

    def _empty_tables(self, contents: Contents) -> Iterator[Check]:
        there = _by_name(self.expected.tables)
        for table in contents.tables:
            if not table.rows and table.name in there and not there[table.name].rows:
                yield _check(f"content.{table.name}", 0)

    def _schema(self, contents: Contents) -> Check:
        with self._reading() as connection:
            [(definitions,)] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        pairs = {"sha256": (contents.schema_sha256, self.expected.schema_sha256)}
        return _check("schema", definitions, "definitions", _unequal(pairs))

    def _migration_head(self, contents: Contents) -> Check:
        pair = (contents.migration_head, self.expected.migration_head)
        return _check("migration-head", 0 if pair == (None, None) else 1, "revisions", _unequal({"head": pair}))

    def _newest(self, contents: Contents) -> Check:
        here, there = _by_name(contents.tables), _by_name(self.expected.tables)
        said = _unequal({"newest commit": (contents.newest_commit_at, self.expected.newest_commit_at)})
        for name in sorted(here.keys() & there.keys()):
            found, expected = here[name].newest, there[name].newest
            pairs = {one: (found.get(one), expected.get(one)) for one in sorted(found.keys() | expected.keys())}
            said += _unequal(pairs, f"table {name}: newest ")
        compared = sum(len(table.newest) for table in self.expected.tables)
        return _check("newest", compared + (self.expected.newest_commit_at is not None), "values", said)

    def _log_positions(self, contents: Contents) -> Check:
        here, there = (
            {one.partition: f"{one.last_id} of epoch {one.epoch}" for one in positions}
            for positions in (contents.log_positions, self.subject.manifest.log_positions)
        )
        pairs = {f"partition {one}": (here.get(one), there.get(one)) for one in sorted(here.keys() | there.keys())}
        return _check("log-positions", len(there), "partitions", _unequal(pairs))

    def _foreign_keys(self, contents: Contents) -> Check:
        """Count the rows that point nowhere, of a small database in both ways that there are.

        Of tables of which the manifest does not say how many there were, nothing can be compared.
        """
        known = {table.name: table.orphans for table in self.expected.tables if table.orphans is not None}
        counted = {table.name: table.orphans for table in contents.tables}
        here = known.keys() & counted.keys()
        said = []
        with self._reading() as connection:
            for name in sorted(here):
                found = counted[name] if self.is_whole else count_orphans(connection, name)
                pairs = {"by keys": (found, known[name])}
                if self.is_whole:
                    [(checked,)] = connection.execute("SELECT count(*) FROM pragma_foreign_key_check(?)", (name,))
                    pairs["by foreign_key_check"] = (checked, known[name])
                said += _unequal(pairs, f"table {name}: rows that point nowhere ")
        rows = sum(table.rows for table in contents.tables if table.name in here)
        return _check("foreign-keys", rows, "rows", said)

    def _looked(self, name: str, is_same_file: bool, look: Callable[[], Check]) -> Check:  # noqa: FBT001  by position
        """Look, and turn what cannot be read into a difference.

        Where every byte is as it was captured, a reader that fails says more of the reader than of the bytes; only
        damage that SQLite itself names is a difference then.
        """
        try:
            return look()
        except DamagedSourceError as error:
            return _check(name, 1, "pages", [str(error)])
        except (PermanentError, ValueError, TypeError) as error:  # values that no healthy database has
            said = f"the database cannot be read: {error}"
            return _check(name, 0, unable=said) if is_same_file else _check(name, 1, "pages", [said])

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self.file, lambda: self.progress("comparing", 0))


def _check(name: str, examined: int, unit: str = "rows", differences: Sequence[str] = (), *, unable: str = "") -> Check:
    said = list(differences[:_MOST_SAID])
    if more := len(differences) - len(said):
        said.append(f"and {more} more differences")
    return Check(
        name=f"sqlite.{name}", artefact="sqlite", examined=examined, unit=unit, differences=tuple(said), unable=unable
    )


def _unequal(pairs: Mapping[str, tuple[object, object]], prefix: str = "") -> list[str]:
    return [f"{prefix}{name} {now} instead of {then}" for name, (now, then) in pairs.items() if now != then]


def _by_name(tables: Sequence[Table]) -> dict[str, Table]:
    return {table.name: table for table in tables}
