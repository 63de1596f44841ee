"""What apps' operators do with values, each in one call."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.values.files import format_of, read_lines, write_lines
from tasks.values.store import SqlValueReader, SqlValueWriter
from tasks.values.transfer import take_in
from tasks.values.values import InvalidValueError, checked_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path
    from typing import TextIO

    from tasks.runtime import Runtime
    from tasks.values.changes import Action, Change, Refusal
    from tasks.values.listing import Listing, Page
    from tasks.values.store.reading import TrailLine
    from tasks.values.transfer import Tally
    from tasks.values.values import Address, DefaultValue

_PURGED_AT_ONCE = 1_000


def get_values(runtime: Runtime, addresses: Sequence[Address]) -> list[DefaultValue | None]:
    """Give each of these values, or None where there is none.

    Raises:
        InvalidValueError: one of the addresses cannot be one.
        TransientError: the database is away.
    """
    wanted = [checked_address(*address) for address in addresses]
    found = SqlValueReader(runtime.engine).get_many(wanted)
    return [found.get(address) for address in wanted]


def change_values(
    runtime: Runtime, changes: Sequence[Change], *, actor: str, whole: bool = False
) -> list[DefaultValue | Refusal]:
    """Make changes in one transaction; give for each what the value is now, or why it was not made.

    `whole`: all of them, or none.

    Raises:
        TransientError: the database is away; nothing was changed.
    """
    writer = SqlValueWriter(runtime.engine, runtime.clock)
    return writer.apply(changes, actor=actor, whole=whole, guard=runtime.attempt.guard)


def list_values(runtime: Runtime, listing: Listing) -> Page:
    """Give a page of values.

    Raises:
        InvalidListingError: the mark is not of this order.
        TransientError: the database is away.
    """
    return SqlValueReader(runtime.engine).page(listing)


def trail_of(runtime: Runtime, address: Address) -> list[TrailLine]:
    """Give who made a value what and when, the newest first.

    Raises:
        TransientError: the database is away.
    """
    return SqlValueReader(runtime.engine).trail(checked_address(*address))


def purge_values(runtime: Runtime, *, older_than: timedelta, actor: str) -> int:
    """Remove what was deleted so long ago, with all its content; give the count.

    Raises:
        TransientError: the database is away; what was purged until then stays purged.
    """
    writer = SqlValueWriter(runtime.engine, runtime.clock)
    before, count = runtime.clock() - older_than, 0
    while gone := writer.purge(before=before, limit=_PURGED_AT_ONCE, actor=actor):
        count += len(gone)
        runtime.attempt.checkpoint()
    return count


def import_values(
    runtime: Runtime,
    file: Path,
    *,
    action: Action,
    actor: str,
    dry_run: bool = False,
    tick: Callable[[int], None] = lambda _lines: None,
) -> Tally:
    """Take values from a file; its name says whether it is CSV or JSON Lines.

    Raises:
        InvalidValueError: it is neither, or does not begin like one; nothing was changed.
        TransientError: the database is away; the batches until then stay, and importing again is harmless.
    """
    reader = SqlValueReader(runtime.engine)

    def versions(changes: Sequence[Change]) -> list[int | None]:
        found = reader.get_many([change.address for change in changes])
        return [found[one.address].version if one.address in found else None for one in changes]

    file_format = format_of(file.name)
    with _readable(file) as lines:
        return take_in(
            read_lines(lines, file_format, action=action),
            SqlValueWriter(runtime.engine, runtime.clock),
            actor=actor,
            versions=versions,
            tick=tick,
            dry_run=dry_run,
        )


def export_values(
    runtime: Runtime, file: Path, listing: Listing, *, tick: Callable[[int, int], None] = lambda _done, _of: None
) -> int:
    """Write values to a file, all as of one moment; it is there whole, or as it was before. Give the count.

    Raises:
        InvalidValueError: its name does not say what it is to be, or it cannot be written.
        TransientError: the database is away.
    """
    file_format = format_of(file.name)
    reader = SqlValueReader(runtime.engine)
    whole, count = reader.count(listing), 0

    def counted() -> Iterator[DefaultValue]:
        nonlocal count
        for value in reader.each(listing):
            count += 1
            yield value
            tick(count, whole)

    with _replaced(file) as out:
        out.writelines(write_lines(counted(), file_format))
    return count


@contextmanager
def _readable(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield lines
    except UnicodeDecodeError as error:
        msg = f"{file} is not UTF-8: {error.reason} at byte {error.start}"
        raise InvalidValueError(msg) from error
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise InvalidValueError(msg) from error


@contextmanager
def _replaced(file: Path) -> Iterator[TextIO]:
    """Write beside a file, and take its place at the end of the block."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"{file} cannot be written: {error.strerror}"
        raise InvalidValueError(msg) from error
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as out:  # noqa: PTH123  a descriptor
            yield out
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
