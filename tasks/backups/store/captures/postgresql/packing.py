"""Files of a point: compressed in frames of their own, so that what has not changed is the same bytes again.

A person with `zstd` and `tar` can open each of them.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

import zstandard

from tasks.backups.manifest import Member
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FRAME_BYTES: Final = 4 * 1024 * 1024
_LEVEL: Final = 3
_CHUNK_BYTES: Final = 1024 * 1024
_TAR_BYTES: Final = 64 * 1024
_OPEN_FILE: Final = 0o600
_OPEN_DIRECTORY: Final = 0o700


class FrameWriter(io.RawIOBase):
    """Compresses what is written to it, each 4 MiB by themselves, and hashes what comes out."""

    def __init__(self, file: IO[bytes], tick: Callable[[int], None]) -> None:
        """Write to a file; `tick` hears how many bytes were taken so far."""
        self._file = file
        self._tick = tick
        self._pending = bytearray()
        self._taken = 0
        self._digest = hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self.size_bytes = 0

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        """Take bytes; they are written as soon as they fill a frame."""
        self._taken += len(chunk)
        self._pending += chunk
        while len(self._pending) >= _FRAME_BYTES:
            self._put(bytes(self._pending[:_FRAME_BYTES]))
            del self._pending[:_FRAME_BYTES]
        return len(chunk)

    def tell(self) -> int:
        """Say how many bytes were taken so far."""
        return self._taken

    def finish(self) -> str:
        """Write what is left, and give the hash of the file."""
        if self._pending or not self.size_bytes:
            self._put(bytes(self._pending))
            self._pending.clear()
        return self._digest.hexdigest()

    def _put(self, chunk: bytes) -> None:
        frame = self._compressor.compress(chunk)
        self._file.write(frame)
        self._digest.update(frame)
        self.size_bytes += len(frame)
        self._tick(self._taken)


def pack_file(source: Path, stage: Path, name: str, *, tick: Callable[[int], None]) -> Member:
    """Compress a file into a member of the stage, and delete it."""
    with _member(stage, name, tick) as (writer, finish), source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            writer.write(chunk)
        member = finish()
    source.unlink()
    return member


def pack_directory(source: Path, stage: Path, name: str, *, tick: Callable[[int], None]) -> Member:
    """Pack the regular files and directories below one into a member of the stage: an archive of tar, compressed.

    Raises:
        PermanentError: there is a link or another thing in it that an archive would not bring back as it is.
    """
    with _member(stage, name, tick) as (writer, finish):
        with tarfile.open(mode="w", fileobj=writer, format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(source.rglob("*")):
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    msg = f"{path.relative_to(source)} of the base backup is neither a file nor a directory"
                    raise PermanentError(msg)
                archive.add(path, path.relative_to(source).as_posix(), recursive=False)
        return finish()


def unpack_file(source: Path, target: Path, *, tick: Callable[[int], None]) -> None:
    """Write what a member was made of.

    Raises:
        PermanentError: it is damaged.
    """
    with _opened(source) as stream, target.open("xb") as file:
        done = 0
        while chunk := stream.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            tick(done)


def unpack_directory(source: Path, target: Path, *, tick: Callable[[int], None]) -> None:
    """Write the files of an archive into a directory, over what is there; none can land outside of it.

    Raises:
        PermanentError: it is damaged, or was not made by `pack_directory`.
    """
    done = 0
    target.mkdir(mode=_OPEN_DIRECTORY, parents=True, exist_ok=True)
    with _opened(source) as stream, tarfile.open(mode="r|", fileobj=stream, bufsize=_TAR_BYTES) as archive:
        for entry in archive:
            _unpack(archive, entry, target)
            done += entry.size
            tick(done)


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts or not (entry.isreg() or entry.isdir()):
        msg = f"{entry.name} has no place in an archive of ours"
        raise PermanentError(msg)
    path = target / name
    if entry.isdir():
        path.mkdir(mode=_OPEN_DIRECTORY, exist_ok=True)
        return
    content = archive.extractfile(entry)
    assert content is not None  # noqa: S101  it is a regular file
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _OPEN_FILE)
    with content, open(descriptor, "wb") as file:  # noqa: PTH123  one system call a file, for thousands of them
        while chunk := content.read(_CHUNK_BYTES):
            file.write(chunk)


@contextmanager
def _member(stage: Path, name: str, tick: Callable[[int], None]) -> Iterator[tuple[FrameWriter, Callable[[], Member]]]:
    path = stage / name
    path.parent.mkdir(mode=_OPEN_DIRECTORY, exist_ok=True)
    with path.open("xb") as file, closing(FrameWriter(file, tick)) as writer:

        def finish() -> Member:
            sha256 = writer.finish()
            return Member(name=name, part="database", size_bytes=writer.size_bytes, sha256=sha256)

        yield writer, finish


@contextmanager
def _opened(source: Path) -> Iterator[IO[bytes]]:
    try:
        with source.open("rb") as file:
            reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            yield io.BufferedReader(reader, _CHUNK_BYTES)
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        msg = f"{source.name} cannot be unpacked: {error}"
        raise PermanentError(msg) from error
