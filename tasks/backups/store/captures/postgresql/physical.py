"""Files of the server: base backups, whole or of what has changed, and the write-ahead log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.backups.postgresql.positions import parse_position, position_text, segment_name
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.backups.postgresql.abilities import Server
    from tasks.backups.store.captures.postgresql.running import Toolbox

BACKUP_MANIFEST: Final = "backup_manifest"

_PARTIAL: Final = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseBackup:
    """A base backup that has been checked."""

    directory: Path
    end: int
    """The place in the log from which on it is whole."""


def take_base_backup(
    toolbox: Toolbox, to: Path, *, since: Path | None, label: str, tick: Callable[[], None]
) -> BaseBackup:
    """Have the server send its files, or what of them has changed since the backup with this manifest.

    A slot has to keep the log meanwhile (see `slots.log_kept`): it is fetched at the end. To stream it beside the files
    the tool would start a second process, which knows nothing of our death or of that of the first, and goes on.

    Raises:
        RefusedError: among others, the server has no summaries of its log back to that backup.
        TransientError: see `Toolbox.run`.
    """
    increment: list[str | Path] = [] if since is None else ["--incremental", since]
    toolbox.run(
        "pg_basebackup",
        *("--pgdata", to, "--format=plain", "--wal-method=fetch", "--checkpoint=fast"),
        *("--manifest-checksums=SHA256", "--no-sync", "--no-password", "--label", label),
        *increment,
        tick=tick,
    )
    verify_base_backup(toolbox, to, tick=tick)
    return BaseBackup(directory=to, end=_end_of(to / BACKUP_MANIFEST))


def verify_base_backup(toolbox: Toolbox, directory: Path, *, tick: Callable[[], None]) -> None:
    """Compare the files with the server's own list of them; the log is proven by replaying it.

    Raises:
        RefusedError: they are not the same.
    """
    toolbox.run("pg_verifybackup", "--quiet", "--no-parse-wal", directory, tick=tick)


def receive_log(
    toolbox: Toolbox, to: Path, *, server: Server, since: int, until: int, tick: Callable[[], None]
) -> None:
    """Fetch the segments of the log from the one that holds a place up to the end of a record.

    Raises:
        RefusedError: among others, the server has deleted a part of it already.
        TransientError: see `Toolbox.run`.
    """
    to.mkdir(mode=0o700)
    first = segment_name(since, timeline=server.timeline, segment_bytes=server.segment_bytes)
    # It goes on where the newest file of the directory ends, and otherwise begins with what the server writes now.
    (to / f"{first}{_PARTIAL}").touch(mode=0o600)
    toolbox.run(
        "pg_receivewal",
        *("--directory", to, "--endpos", position_text(until), "--no-loop", "--no-sync", "--no-password"),
        tick=tick,
    )
    for path in to.glob(f"*{_PARTIAL}"):
        path.rename(path.with_suffix(""))
    _check_log(to, server=server, since=since, until=until)


def _check_log(directory: Path, *, server: Server, since: int, until: int) -> None:
    """See whether each segment is there at its full length."""
    size = server.segment_bytes
    for number in range(since // size, until // size + 1):
        name = segment_name(number * size, timeline=server.timeline, segment_bytes=size)
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            msg = f"pg_receivewal said that all went well, and segment {name} of the log is not there"
            raise PermanentError(msg)


def _end_of(manifest: Path) -> int:
    """Read where the log that a base backup needs ends."""
    ranges = json.loads(manifest.read_bytes())["WAL-Ranges"]
    return max(parse_position(one["End-LSN"]) for one in ranges)
