"""From the points of a chain back to the database file, byte by byte."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tasks.backups.pages.patching import apply_deltas
from tasks.backups.pages.whole import decompress_whole
from tasks.backups.store.captures.private_files import new_file
from tasks.backups.store.captures.sqlite import DELTA, FULL
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.backups.manifest import Database
    from tasks.backups.staging import Link, Progress


class BrokenChainError(PermanentError):
    """The points do not rest on each other, or give another file than was captured."""


def restore_sqlite(links: Sequence[Link], to: Path, *, progress: Progress) -> None:
    """Write the database of the last link to a new file, which appears only when its hash is that of the capture.

    The links are a full and the deltas on it, in order, their members fetched; what is damaged in them is found.

    Raises:
        PermanentError: a member is damaged, the links are no chain, or the result is not what was captured.
        FileExistsError: there is something at `to`.
    """
    databases = _chain(links)
    if os.path.lexists(to):
        raise FileExistsError(to)
    draft = to.with_name(f".{to.name}.{secrets.token_hex(6)}.partial")
    try:
        _write(links, databases, draft, progress)
        draft.rename(to)
        _sync(to.parent)
    finally:
        draft.unlink(missing_ok=True)


def _chain(links: Sequence[Link]) -> list[Database]:
    databases = []
    before = None
    for link in links:
        manifest, database = link.manifest, link.manifest.database
        method = "copy" if before is None else "page-delta"
        if database is None or (database.engine, database.method) != ("sqlite", method):
            msg = f"point {manifest.point} is at a place of the chain where a SQLite {method} should be"
            raise BrokenChainError(msg)
        if before is not None and manifest.parent != before:
            msg = f"point {manifest.point} rests on {manifest.parent}, and comes after {before} in the chain"
            raise BrokenChainError(msg)
        databases.append(database)
        before = manifest.point
    if not databases:
        raise BrokenChainError("a chain of no points restores nothing")
    return databases


def _write(links: Sequence[Link], databases: Sequence[Database], draft: Path, progress: Progress) -> None:
    size_bytes, full_bytes = databases[-1].file_bytes, databases[0].file_bytes or 0
    with new_file(draft), draft.open("r+b") as file, ExitStack() as stack:
        compressed = stack.enter_context((links[0].directory / FULL).open("rb"))
        sha256 = decompress_whole(
            compressed, file, file_bytes=full_bytes, tick=lambda done: progress("decompressing", done, full_bytes)
        )
        _check(sha256, databases[0], links[0])
        deltas = (stack.enter_context((link.directory / DELTA).open("rb")) for link in links[1:])
        tick = lambda done: progress("applying", done, size_bytes)  # noqa: E731  shorter than a function
        sha256 = apply_deltas(file, deltas, known_sha256=sha256, tick=tick)
        _check(sha256, databases[-1], links[-1])
        file.flush()
        os.fsync(file.fileno())


def _check(sha256: bytes, expected: Database, link: Link) -> None:
    if sha256.hex() != expected.file_sha256:
        msg = (
            f"point {link.manifest.point} restores to a file with sha256 {sha256.hex()[:12]}…, "
            f"and {(expected.file_sha256 or 'none')[:12]}… was captured"
        )
        raise BrokenChainError(msg)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
