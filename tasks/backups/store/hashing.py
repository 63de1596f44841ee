"""Hashes of files, read once and never as a whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.backups.manifest import Member

_CHUNK_BYTES: Final = 1024 * 1024


class DamagedMemberError(PermanentError):
    """A file of a restore point is not what it was when it was taken."""


def check_member(path: Path, member: Member, *, tick: Callable[[int], None]) -> None:
    """See whether a file is the member that it should be; `tick` hears how many bytes are read, and is a checkpoint.

    Raises:
        DamagedMemberError: it is missing, or of another length or content.
    """
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        msg = f"{member.name} is missing from the restore point"
        raise DamagedMemberError(msg) from None
    if length != member.size_bytes:
        msg = f"{member.name} has {length} bytes and not the {member.size_bytes} that were stored"
        raise DamagedMemberError(msg)
    if sha256_of(path, tick=tick) != member.sha256:
        msg = f"{member.name} has the right length and not the content that was stored: the vault is damaged"
        raise DamagedMemberError(msg)


def sha256_of(path: Path, *, tick: Callable[[int], None]) -> str:
    """Hash a file; `tick` hears how many bytes are read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            tick(done)
    return digest.hexdigest()
