"""A SQLite database as members of a restore point: whole, or what has changed since the parent.

database/full.sqlite.zst      all of it, for `zstd -d`
database/delta.pages.zst      or the pages that differ from the parent's list
database/pages                the list of the pages, for the next delta
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import zstandard

from tasks.backups.eta import bytes_text
from tasks.backups.manifest import Database, Member
from tasks.backups.pages.delta import TooManyChangesError, write_delta
from tasks.backups.pages.lists import PageList, UnreadablePageListError, pages_of
from tasks.backups.pages.whole import compress_whole
from tasks.backups.staging import DatabaseCapture
from tasks.backups.store.captures.private_files import new_file
from tasks.backups.store.captures.sqlite_copying import check_copy, copy_database
from tasks.backups.store.captures.sqlite_reading import read_contents
from tasks.backups.store.hashing import sha256_of
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tasks.backups.pages.delta import Difference
    from tasks.backups.staging import ParentPoint, Stage
    from tasks.backups.store.captures.sqlite_reading import Contents

FULL: Final = "database/full.sqlite.zst"
DELTA: Final = "database/delta.pages.zst"
PAGES: Final = "database/pages"

_COPY: Final = "database/copy.sqlite"
"""Gone before the vault gets the stage."""
_MOST_CHANGED_SHARE: Final = 0.4
_READ_WHOLE_BELOW_BYTES: Final = 256 * 1024 * 1024
_PAGE_SIZE_AT: Final = 16
_PAGE_SIZE_BYTES: Final = 2
_LARGEST_PAGE: Final = 65_536
"""Written as 1, for it does not fit (https://www.sqlite.org/fileformat.html, 1.3.2)."""


def capture_sqlite(
    source: Path,
    stage: Stage,
    *,
    parent: ParentPoint | None = None,
    most_changed_share: float = _MOST_CHANGED_SHARE,
    read_whole_below_bytes: int = _READ_WHOLE_BELOW_BYTES,
) -> DatabaseCapture:
    """Take a database while it is written to. With a parent, take what has changed; or all, where that is not worth it.

    A full, and a database up to `read_whole_below_bytes`, is read row by row for what it must be when it comes back.

    Raises:
        PermanentError: there is no database, or it is damaged.
        TransientError: others keep it locked, the disk is too full, or the vault does not give the parent's list.
    """
    directory = stage.directory / "database"
    directory.mkdir(mode=0o700)
    copy = stage.directory / _COPY
    spare = 1.0 if parent is None else most_changed_share
    taken_at = copy_database(source, copy, progress=stage.progress, spare=spare)
    check_copy(copy, lambda: stage.progress("checking", 0))
    packed = _pack(copy, stage, parent, most_changed_share)
    contents = _read(copy, stage, taken_at, packed, read_whole_below_bytes)
    copy.unlink()
    return DatabaseCapture(
        members=_members(stage, (PAGES, DELTA if packed.is_delta else FULL)),
        expected=_expected(packed, contents),
        taken_at=taken_at,
        is_delta=packed.is_delta,
        promoted_because=packed.promoted_because,
        is_unchanged=packed.is_unchanged,
        log_positions=contents.log_positions,
        tools={"sqlite": sqlite3.sqlite_version, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """What the copy was made into."""

    pages: PageList
    difference: Difference | None = None
    """None for a full."""
    is_unchanged: bool = False
    promoted_because: str | None = None

    @property
    def is_delta(self) -> bool:
        return self.difference is not None


class _NoDeltaError(Exception):
    """There is no delta, or it is not worth it; the text says why."""


def _pack(copy: Path, stage: Stage, parent: ParentPoint | None, most_changed_share: float) -> _Packed:
    if parent is None:
        return _Packed(pages=_pack_full(copy, stage))
    try:
        return _pack_delta(copy, stage, _parent_pages(parent), most_changed_share)
    except _NoDeltaError as reason:
        (stage.directory / DELTA).unlink(missing_ok=True)
        return _Packed(pages=_pack_full(copy, stage), promoted_because=str(reason))


def _parent_pages(parent: ParentPoint) -> PageList:
    """Get the list of the parent's pages, and see that it is of the file that the parent restores to."""
    point, expected = parent.manifest.point, parent.manifest.database
    if expected is None or expected.engine != "sqlite":
        msg = f"the parent {point} has no SQLite database"
        raise _NoDeltaError(msg)
    try:
        pages = PageList.from_bytes(parent.fetch(PAGES).read_bytes())
    except UnreadablePageListError as error:
        msg = f"the list of pages of the parent {point} is of no use: {error}"
        raise _NoDeltaError(msg) from error
    except PermanentError as error:
        msg = f"the list of pages of the parent {point} cannot be had: {error}"
        raise _NoDeltaError(msg) from error
    if pages.file_sha256.hex() != expected.file_sha256:
        msg = f"the list of pages of the parent {point} is of another file"
        raise _NoDeltaError(msg)
    return pages


def _pack_delta(copy: Path, stage: Stage, before: PageList, most_changed_share: float) -> _Packed:
    size_bytes, page_bytes = copy.stat().st_size, _page_bytes(copy)
    if page_bytes != before.page_bytes:
        msg = f"the pages have {page_bytes} bytes now, and had {before.page_bytes} in the parent"
        raise _NoDeltaError(msg)
    count = pages_of(size_bytes, page_bytes)
    try:
        with copy.open("rb", buffering=0) as newer, new_file(stage.directory / DELTA) as out:
            difference = write_delta(
                newer,
                before,
                out,
                newer_bytes=size_bytes,
                most_changed=int(count * most_changed_share),
                tick=lambda done: stage.progress("comparing", done, size_bytes),
            )
    except TooManyChangesError as error:
        msg = (
            f"{error.changed} or more of {count} pages differ from the parent's, and a delta is worth it up to "
            f"{most_changed_share:.0%}: the database was replaced or repacked, or much has changed"
        )
        raise _NoDeltaError(msg) from error
    is_unchanged = difference.pages.file_sha256 == before.file_sha256
    return _Packed(pages=_kept(difference.pages, stage), difference=difference, is_unchanged=is_unchanged)


def _pack_full(copy: Path, stage: Stage) -> PageList:
    size_bytes = copy.stat().st_size
    with copy.open("rb", buffering=0) as file, new_file(stage.directory / FULL) as out:
        pages = compress_whole(
            file, _page_bytes(copy), out, tick=lambda done: stage.progress("compressing", done, size_bytes)
        )
    return _kept(pages, stage)


def _kept(pages: PageList, stage: Stage) -> PageList:
    with new_file(stage.directory / PAGES) as out:
        out.write(pages.to_bytes())
    return pages


def _page_bytes(copy: Path) -> int:
    with copy.open("rb") as file:
        file.seek(_PAGE_SIZE_AT)
        size = int.from_bytes(file.read(_PAGE_SIZE_BYTES), "big")
    return _LARGEST_PAGE if size == 1 else size


def _read(copy: Path, stage: Stage, taken_at: datetime, packed: _Packed, read_whole_below_bytes: int) -> Contents:
    """Read every row of a full and of a small database; of others only what is cheap."""
    size_bytes = packed.pages.file_bytes
    is_whole = not packed.is_delta or size_bytes <= read_whole_below_bytes
    contents = read_contents(copy, until=taken_at, is_whole=is_whole, progress=stage.progress)
    if is_whole:
        return contents
    limit = bytes_text(read_whole_below_bytes)
    return replace(contents, unread=f"an incremental of {bytes_text(size_bytes)}, and rows are read up to {limit}")


def _expected(packed: _Packed, contents: Contents) -> Database:
    difference = packed.difference
    return Database(
        engine="sqlite",
        server_version=contents.server_version,
        method="page-delta" if packed.is_delta else "copy",
        schema_sha256=contents.schema_sha256,
        migration_head=contents.migration_head,
        tables=contents.tables,
        unread=contents.unread,
        newest_commit_at=contents.newest_commit_at,
        file_sha256=packed.pages.file_sha256.hex(),
        file_bytes=packed.pages.file_bytes,
        changed_share=None if difference is None else difference.changed_share,
        details={"page_bytes": packed.pages.page_bytes, "pages": len(packed.pages)}
        | ({} if difference is None else {"changed_pages": difference.changed}),
    )


def _members(stage: Stage, names: tuple[str, ...]) -> tuple[Member, ...]:
    return tuple(
        Member(
            name=name,
            part="database",
            size_bytes=(path := stage.directory / name).stat().st_size,
            sha256=sha256_of(path, tick=lambda done: stage.progress("hashing", done)),
        )
        for name in names
    )
