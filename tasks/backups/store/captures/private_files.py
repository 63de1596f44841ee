"""New files in a stage: for this user alone, hashed while they are written."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK_BYTES: Final = 1024 * 1024


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that is not there yet.

    Raises:
        FileExistsError: it is there, or a link of its name is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file


def copy_hashed(
    source: IO[bytes], target: IO[bytes], *, size_bytes: int, tell: Callable[[int, int], None]
) -> tuple[str, int]:
    """Copy the beginning of a file, of so many bytes; give its SHA-256 and length, which is less if it ended before.

    The rest stays, because the reading of a file that grows as fast as it is read would never end. `tell` hears how
    many bytes are copied, of how many.
    """
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(min(_CHUNK_BYTES, size_bytes - done)):
        target.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        tell(done, size_bytes)
    return digest.hexdigest(), done
