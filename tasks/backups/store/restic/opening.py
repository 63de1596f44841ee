"""What there is in a vault, and making it where there is nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.backups.store.restic.saying import json_lines, listed_from, sizes_from
from tasks.backups.vaults import VaultDamagedError, VaultMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.backups.store.restic.program import Restic
    from tasks.backups.store.restic.saying import Listed

_KNOWN: Final = "vault"
"""A file beside the cache: where the vault was when it was last opened."""

_SKELETON: Final = frozenset({"data", "index", "keys", "locks", "snapshots"})
_UNFINISHED: Final = re.compile(r"keys/[0-9a-f]{64}(-tmp-\d+)?|config-tmp-\d+")


def open_or_make(restic: Restic, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
    """Open the vault and take away locks of dead processes; make it where there is none and never was one.

    `arguments` and `env` are for making it.

    Raises:
        VaultMissingError: there was one here once, or there are other files: nothing is made over that.
        VaultError: it cannot be opened.
    """
    _ = restic.version  # one that is too old says other things
    finished = restic.try_to(["--no-lock", "cat", "config"])
    if finished.code:
        error = restic.failure(finished, "the vault cannot be opened")
        if not isinstance(error, VaultMissingError):
            raise error
        _check_is_new(restic)
        restic.ask("the vault cannot be made", ["init", "--repository-version", "2", *arguments], env=env)
    (restic.cache / _KNOWN).write_text(restic.place.location)
    restic.ask("old locks cannot be taken away", ["unlock"])
    for remains in restic.cache.glob("restic-check-cache-*"):
        shutil.rmtree(remains, ignore_errors=True)  # of a check that was killed


def listed(restic: Restic) -> list[Listed]:
    """Name everything stored by the crew of the place, oldest first; without one, by any crew.

    Raises:
        VaultDamagedError: there is something that cannot be read.
    """
    lines = restic.ask_for_lines("the vault cannot be listed", ["snapshots", "--json"])
    found = [listed_from(one) for one in json.loads("".join(lines) or "[]") or []]
    ours = [one for one in found if one is not None and restic.place.crew in {None, one.crew}]
    return sorted(ours, key=lambda one: (one.snapshot.stored_at, one.snapshot.id))


def opened(restic: Restic, snapshot_id: str) -> tuple[Listed | None, dict[str, int]]:
    """Read a snapshot's own words, and the bytes of its files by name; the id may be a beginning of one.

    Raises:
        VaultDamagedError: there is no such snapshot, or it cannot be read.
    """
    what = f"snapshot {snapshot_id[:8]} cannot be listed"
    head, *nodes = json_lines(restic.ask_for_lines(what, ["ls", "--json", snapshot_id])) or [None]
    if head is None:
        msg = f"{what}: the vault has none of this name"
        raise VaultDamagedError(msg)
    return listed_from(head), sizes_from(nodes)


def _check_is_new(restic: Restic) -> None:
    """Refuse to begin anew where a vault was: its disk may not be mounted."""
    location, known = restic.place.location, restic.cache / _KNOWN
    if known.exists() and known.read_text() == location:
        msg = f"the vault at {location} is gone: bring it back, or delete {known} to begin a new one there"
        raise VaultMissingError(msg)
    if not restic.is_local or not Path(location).exists():
        return
    _clear_half_made(Path(location))
    if any(Path(location).iterdir()):
        msg = f"{location} is no vault, and not empty: name an empty place"
        raise VaultMissingError(msg)


def _clear_half_made(place: Path) -> None:
    """Take away what an `init` has left that was killed before it wrote its config, the last thing that it does.

    Its key must go too: the next `init` makes another one, and whichever is found first would be used.
    """
    files = [path for path in place.rglob("*") if not path.is_dir() or path.is_symlink()]
    directories = {path.name for path in place.iterdir() if path.is_dir()}
    # All directories are there before the first file: what has a key and less than these is somebody else's.
    if not (directories <= _SKELETON and (not files or directories == _SKELETON)):
        return
    if all(_UNFINISHED.fullmatch(path.relative_to(place).as_posix()) for path in files):
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
