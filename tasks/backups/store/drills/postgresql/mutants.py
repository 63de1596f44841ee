"""Damage to a restored PostgreSQL database that must be rejected.

By statements it is done in transactions on the server of our own, which are rolled back: to the examiner the damage is
there, and after it nothing is. All of these are tried while the server runs once. By bytes it is done to a copy of the
data directory, which is served then.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from tasks.backups.drills.subjects import Mutant
from tasks.backups.drills.verdicts import Check
from tasks.backups.staging import Stage
from tasks.backups.store.captures.postgresql.restoring import CLUSTER, restore_database
from tasks.backups.store.captures.postgresql.sessions import opened_session
from tasks.backups.store.drills.copies import chance, trial_directory
from tasks.backups.store.drills.postgresql.damages import BY_STATEMENTS, Catalogue, NothingToDamageError
from tasks.backups.store.drills.postgresql.serving import serving
from tasks.backups.store.stages import check_room
from tasks.backups.store.targets import enterable
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from tasks.backups.drills.subjects import Subject
    from tasks.backups.manifest import Database
    from tasks.backups.staging import Link, Progress

    Look = Callable[[Connection, Database, Callable[[], None]], Sequence[Check]]
    Examine = Callable[[Subject, Progress], Sequence[Check]]

_LARGEST_COPY_BYTES: Final = 4 * 1024**3
_HEADER_AT: Final = 12
_GARBAGE: Final = b"\xff" * 6
"""Over the pointers in the head of a page: neither its tuples nor its free room can be found any more."""
_PAGE_BYTES: Final = 8192


_DAMAGE: Final = frozenset({"XX001", "XX002"})
"""https://www.postgresql.org/docs/current/errcodes-appendix.html: data corrupted, index corrupted."""
_SEEN_IN_ROWS_ALONE: Final = frozenset({"change-one-letter-of-a-text", "change-a-number", "break-a-foreign-key"})


class DamagedPageError(PermanentError):
    """The server cannot read what was restored to its end."""


def damage_in(error: DBAPIError) -> str | None:
    """Give what the server says of damaged pages; None where it says something else, such as that the disk is full."""
    is_damage = getattr(error.orig, "sqlstate", None) in _DAMAGE
    return str(error.orig).partition("\n")[0] if is_damage else None


def mutants_of(
    subject: Subject, expected: Database, look: Look, examine: Examine, progress: Progress
) -> Sequence[Mutant]:
    """Name the ways to damage a database that was found equal.

    Raises:
        PermanentError: it cannot be served.
        TransientError: the machine was in the way.
    """
    with serving(subject, progress) as url, opened_session(url) as connection, connection.begin():
        catalogue = Catalogue.read(connection)
        plans = {name: _plan(name, catalogue, subject, expected) for name in BY_STATEMENTS}
        files = catalogue.files
    trials = _Trials(
        subject=subject,
        expected=expected,
        look=look,
        examine=examine,
        progress=progress,
        plans={name: plan for name, plan in plans.items() if not isinstance(plan, str)},
    )
    return [
        *(trials.by_statements(name, plan if isinstance(plan, str) else "") for name, plan in plans.items()),
        *(trials.by_bytes(f"garble-a-page-of-{what}", file) for what, file in files.items()),
        trials.older_point(),
    ]


def _plan(name: str, catalogue: Catalogue, subject: Subject, expected: Database) -> Sequence[str] | str:
    """Give the statements of a damage, or why it cannot be done."""
    if name in _SEEN_IN_ROWS_ALONE and expected.unread:
        return f"rows were not read when it was captured: {expected.unread}"
    try:
        return BY_STATEMENTS[name](catalogue, chance(subject, f"postgresql.{name}"))
    except NothingToDamageError as nothing:
        return str(nothing)


@dataclass(slots=True, kw_only=True)
class _Trials:
    subject: Subject
    expected: Database
    look: Look
    examine: Examine
    progress: Progress
    plans: dict[str, Sequence[str]]
    _looked: dict[str, Sequence[Check] | PermanentError] = field(default_factory=dict)

    def by_statements(self, damage: str, not_possible: str) -> Mutant:
        return Mutant(
            name=f"postgresql.{damage}",
            artefact="postgresql",
            trial=lambda: self._tried(damage),
            not_possible=not_possible,
        )

    def by_bytes(self, damage: str, file: str | None) -> Mutant:
        """Damage a file of the data directory; a point that has only a dump has none."""
        cluster = self.subject.restored / "database" / CLUSTER
        why_not = ""
        if not cluster.is_dir():
            why_not = "the point has a dump, and no data directory"
        elif file is None:
            why_not = "there is nothing of the kind"
        elif _size_of(cluster) > _LARGEST_COPY_BYTES:
            why_not = f"the data directory is larger than {_LARGEST_COPY_BYTES >> 30} GiB"
        return Mutant(
            name=f"postgresql.{damage}",
            artefact="postgresql",
            trial=lambda: self._garbled(cluster, file or ""),
            not_possible=why_not,
        )

    def older_point(self) -> Mutant:
        """Put the database of the point before in place of the right one."""
        before = self.subject.links[:-1]
        is_same = bool(before) and self.subject.manifest.is_unchanged
        why_not = "" if before and not is_same else "no earlier point of the chain differs"
        return Mutant(
            name="postgresql.older-point",
            artefact="postgresql",
            trial=lambda: self._older(before),
            not_possible=why_not,
        )

    def _older(self, links: Sequence[Link]) -> Sequence[Check]:
        with trial_directory(self.subject.scratch) as directory, enterable(self.subject.scratch, directory):
            database = directory / "database"
            database.mkdir(mode=0o700)
            stage = Stage(directory=database, progress=self.progress, limits=self.subject.limits)
            with enterable(database):
                restore_database(links, stage, tools=self.subject.postgresql_tools, as_cluster=True)
            return self.examine(replace(self.subject, restored=directory), self.progress)

    def _tried(self, damage: str) -> Sequence[Check]:
        """Try all that is done by statements, for the first one who asks; what could not be done harms no other."""
        if not self._looked:
            with serving(self.subject, self.progress) as url, opened_session(url) as connection:
                for name, statements in self.plans.items():
                    try:
                        self._looked[name] = self._try(connection, name, statements)
                    except PermanentError as error:
                        self._looked[name] = error
        looked = self._looked[damage]
        if isinstance(looked, PermanentError):
            raise looked
        return looked

    def _try(self, connection: Connection, damage: str, statements: Sequence[str]) -> Sequence[Check]:
        transaction = connection.begin()
        try:
            self._do(connection, damage, statements)
            return self.look(connection, self.expected, lambda: self.progress("comparing", 0))
        except DamagedPageError as error:
            return [_unreadable(str(error))]
        finally:
            transaction.rollback()

    def _do(self, connection: Connection, damage: str, statements: Sequence[str]) -> None:
        try:
            for statement in statements:
                connection.exec_driver_sql(statement)
        except DBAPIError as error:
            msg = f"postgresql.{damage} could not be done: {str(error.orig).partition(chr(10))[0]}"
            raise PermanentError(msg) from error

    def _garbled(self, cluster: Path, file: str) -> Sequence[Check]:
        size_bytes = _size_of(cluster)
        with trial_directory(self.subject.scratch) as directory:
            check_room(directory, size_bytes)
            copy = directory / "database" / CLUSTER
            copy.parent.mkdir(mode=0o700)
            shutil.copytree(cluster, copy, symlinks=True)
            with (copy / file).open("r+b") as pages:
                pages.seek(_last_page(copy / file) + _HEADER_AT)
                pages.write(_GARBAGE)
            return self.examine(replace(self.subject, restored=directory), self.progress)


def _last_page(file: Path) -> int:
    return max(0, (file.stat().st_size // _PAGE_BYTES - 1) * _PAGE_BYTES)


def _size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _unreadable(said: str) -> Check:
    return Check(name="postgresql.content", artefact="postgresql", examined=1, unit="databases", differences=(said,))
