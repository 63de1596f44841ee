"""A consistent copy of a SQLite database that others are writing to, page by page as they are.

Pages stay where they are (SQLite's backup API; `VACUUM INTO` would move all of them), so that a delta is small. Only
the counter of changes and the schema's version, both on the first page, are those of the copy.

The live file is never opened but by SQLite: closing a second handle of it would drop the locks of all connections that
this process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tasks.backups.store.stages import check_room
from tasks.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.backups.staging import Progress

_PAGES_AT_ONCE: Final = 256
_CACHED_PAGES: Final = 16
"""Each page is needed once: a small cache stays in that of the processor, which saves an eighth of its time."""
_LOCK_PATIENCE_S: Final = 30.0
_FIRST_LINES: Final = 3
_STEPS_BETWEEN_TICKS: Final = 200_000
"""Of SQLite's virtual machine: some milliseconds."""
_WHOLE_FILE: Final = 1 << 46
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PASSING: Final = _BUSY | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_NO_DATABASE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedSourceError(PermanentError):
    """The database that should be backed up is damaged, or is none."""


def copy_database(
    source: Path, copy: Path, *, progress: Progress, spare: float, lock_patience_s: float = _LOCK_PATIENCE_S
) -> datetime:
    """Copy what is committed, and give the moment before which all of it is in the copy.

    One read transaction lasts from the first page to the last: whatever writers do meanwhile, all pages are of one
    moment and none is copied twice; in WAL mode no writer waits. `spare` is the room that is needed on the disk beside
    the copy, as a share of it.

    Raises:
        PermanentError: there is no database, or it is damaged.
        TransientError: others keep it locked, or the disk is too full.
    """
    _check_source(source)
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.close(descriptor)
    with (
        _translated(source),
        closing(_connect(source, "rw", timeout_s=lock_patience_s)) as live,
        closing(_connect(copy, "rw", timeout_s=0)) as written,
    ):
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            written.execute(f"PRAGMA {pragma}")
        for connection in (live, written):
            connection.execute(f"PRAGMA cache_size = {_CACHED_PAGES}")
        live.execute("BEGIN")
        taken_at = datetime.now(UTC)
        live.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on, nothing that others do is seen
        pages, page_bytes = (live.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages == 0:
            msg = f"{source} is empty ({source.stat().st_size} bytes): it was truncated, or never written"
            raise DamagedSourceError(msg)
        check_room(copy.parent, round(pages * page_bytes * (1 + spare)))
        live.backup(written, pages=_PAGES_AT_ONCE, progress=_Pages(page_bytes, progress, lock_patience_s), sleep=0.05)
    return taken_at


def check_copy(copy: Path, tick: Callable[[], None]) -> None:
    """See whether SQLite finds nothing wrong with the copy.

    CHECK constraints are left out, because SQLite does not read them of a file that is opened for reading alone: a copy
    is not worse for what the source allowed itself, and they may call functions that only the application has.

    Raises:
        DamagedSourceError: it does; with the first lines.
    """
    with reading(copy, tick) as connection:
        found = [str(line) for (line,) in connection.execute(f"PRAGMA quick_check({_FIRST_LINES})")]
    if found != ["ok"]:
        lines = "; ".join(" ".join(line.split()) for line in found)
        msg = f"the database is damaged, and so would its backup be: {lines}"
        raise DamagedSourceError(msg)


@contextmanager
def reading(file: Path, tick: Callable[[], None]) -> Iterator[sqlite3.Connection]:
    """Open a database that nobody writes to, without leaving anything beside it; `tick` is a checkpoint.

    Raises:
        DamagedSourceError: it is none, or is damaged.
    """
    raised: list[BaseException] = []

    def watch() -> int:
        try:
            tick()
        except BaseException as error:  # noqa: BLE001  raised again below: nothing can pass through SQLite
            raised.append(error)
        return len(raised)

    # Nobody else has the file, so it may be mapped: half the system's work for reading it.
    with closing(_connect(file, "ro", "immutable=1")) as connection:
        connection.execute(f"PRAGMA mmap_size = {_WHOLE_FILE}")
        tick()
        connection.set_progress_handler(watch, _STEPS_BETWEEN_TICKS)
        try:
            with _translated(file):
                yield connection
        except Exception:
            if raised:
                raise raised[0] from None
            raise


class _Pages:
    """Hears from the backup API after each step. What it raises ends the copying."""

    def __init__(self, page_bytes: int, progress: Progress, lock_patience_s: float) -> None:
        self._page_bytes, self._progress, self._lock_patience_s = page_bytes, progress, lock_patience_s
        self._moved_s = time.monotonic()

    def __call__(self, status: int, remaining: int, total: int) -> None:
        now_s = time.monotonic()
        self._progress("copying", (total - remaining) * self._page_bytes, total * self._page_bytes)
        if status not in _BUSY:
            self._moved_s = now_s
        elif now_s - self._moved_s > self._lock_patience_s:
            msg = f"somebody has kept the database locked for {self._lock_patience_s:.0f} s"
            raise TransientError(msg)


def _check_source(source: Path) -> None:
    try:
        source.stat()
    except FileNotFoundError:
        msg = f"there is no database at {source}"
        raise PermanentError(msg) from None
    except PermissionError as error:
        msg = f"the database {source} cannot be read: {error.strerror}"
        raise PermanentError(msg) from None
    if not source.is_file():
        msg = f"{source} is no file, and so no database"
        raise DamagedSourceError(msg)


def _connect(file: Path, mode: str, *more: str, timeout_s: float = 5) -> sqlite3.Connection:
    options = "&".join((f"mode={mode}", *more))
    uri = f"file:{quote(str(file.resolve()))}?{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout_s)


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _NO_DATABASE:
            msg = f"{file} is no SQLite database, or is damaged: {error}"
            raise DamagedSourceError(msg) from error
        if code in _PASSING:
            msg = f"the database {file} cannot be read and copied now: {error}"
            raise TransientError(msg) from error
        msg = f"the database {file} cannot be read and copied: {error}; see whether this user may write it"
        raise PermanentError(msg) from error
