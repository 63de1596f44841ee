"""Applying deltas: from a file and what changed since to the newer file, or an error."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import zstandard

from tasks.backups.pages.delta import HEADER, MAGIC, NO_PAGE, RUN, SEAL, SEAL_MAGIC
from tasks.backups.pages.lists import CHUNK_BYTES, is_page_size, pages_of
from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHA256_BYTES: Final = 32
_MOST_RUN_BYTES: Final = 1024 * 1024
_MOST_MEMORY: Final = 128 * 1024 * 1024
"""For the window of the decompressor: eight times what our level asks for."""


class UnusableDeltaError(PermanentError):
    """A delta is damaged, is none, or was made against another file. The file it was applied to is worth nothing."""


class WrongResultError(PermanentError):
    """Deltas were applied, and what came out is not the file that they were made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    page_bytes: int
    parent_bytes: int
    parent_sha256: bytes
    newer_bytes: int


def apply_deltas(
    file: BinaryIO,
    deltas: Iterable[BinaryIO],
    *,
    known_sha256: bytes | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Change a file in place from the parent of the first delta to the result of the last; give its sha256.

    Between two deltas, their hashes alone say that they fit: the whole file is read once, at the end. `known_sha256` is
    that of the file if whoever wrote it has just worked it out. `tick` hears bytes, and is a checkpoint.

    Raises:
        UnusableDeltaError: a delta is damaged, or is not for this file.
        WrongResultError: the end is not the file that the last delta was made of.
    """
    now_sha256 = sha256_of(file, tick) if known_sha256 is None else known_sha256
    was_patched = False
    for delta in deltas:
        _check_seal(delta, tick)
        now_sha256 = _Patch(file, delta, now_sha256, tick).apply()
        was_patched = True
    if was_patched and sha256_of(file, tick) != now_sha256:
        msg = "the deltas fit each other, and the file that came out of them is not the one that was captured"
        raise WrongResultError(msg)
    return now_sha256


def sha256_of(file: BinaryIO, tick: Callable[[int], None] = lambda _: None) -> bytes:
    """Hash a file from its beginning."""
    digest, done = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        done += len(chunk)
        tick(done)
    return digest.digest()


def _check_seal(delta: BinaryIO, tick: Callable[[int], None]) -> None:
    """See whether each byte is as it was written, before one of them is used."""
    left = delta.seek(0, os.SEEK_END) - SEAL.size
    delta.seek(0)
    digest = hashlib.blake2b(digest_size=_SHA256_BYTES)
    while left > 0 and (chunk := delta.read(min(left, CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
        tick(0)
    if left != 0 or delta.read() != SEAL.pack(SEAL_MAGIC, _SHA256_BYTES, digest.digest()):
        msg = "the delta is damaged: its bytes are not those that were written"
        raise UnusableDeltaError(msg)
    delta.seek(0)


class _Patch:
    """One delta on its way into a file."""

    def __init__(self, file: BinaryIO, delta: BinaryIO, parent_sha256: bytes, tick: Callable[[int], None]) -> None:
        self._file, self._tick = file, tick
        self._parent_sha256 = parent_sha256
        self._plain = zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY).stream_reader(delta, closefd=False)

    def apply(self) -> bytes:
        try:
            header = self._read_header()
            newer_sha256 = self._read_runs(header)
        except zstandard.ZstdError as error:
            msg = f"the delta cannot be decompressed: {error}"
            raise UnusableDeltaError(msg) from error
        self._file.truncate(header.newer_bytes)
        return newer_sha256

    def _read_header(self) -> _Header:
        magic, page_bytes, parent_bytes, parent_sha256, newer_bytes = HEADER.unpack(self._read(HEADER.size))
        if magic != MAGIC or not is_page_size(page_bytes):
            msg = f"the delta begins with {magic!r}: a newer release may have written it"
            raise UnusableDeltaError(msg)
        found_bytes = self._file.seek(0, os.SEEK_END)
        if (found_bytes, self._parent_sha256) != (parent_bytes, parent_sha256):
            msg = (
                f"the delta was made against another file: sha256 {parent_sha256.hex()[:12]}… of {parent_bytes} bytes, "
                f"and this one has {self._parent_sha256.hex()[:12]}… of {found_bytes} bytes"
            )
            raise UnusableDeltaError(msg)
        return _Header(
            page_bytes=page_bytes, parent_bytes=parent_bytes, parent_sha256=parent_sha256, newer_bytes=newer_bytes
        )

    def _read_runs(self, header: _Header) -> bytes:
        pages, page_bytes = pages_of(header.newer_bytes, header.page_bytes), header.page_bytes
        most_at_once = _MOST_RUN_BYTES // page_bytes
        next_page = changed = 0
        while True:
            first, count = RUN.unpack(self._read(RUN.size))
            if first == NO_PAGE:
                return self._read_end(changed, said=count)
            if not (next_page <= first < first + count <= pages and count <= most_at_once):
                msg = f"the delta contradicts itself: {count} pages from page {first} on, where {next_page} is next"
                raise UnusableDeltaError(msg)
            begin = first * page_bytes
            content = self._read(min(count * page_bytes, header.newer_bytes - begin))
            self._file.seek(begin)
            self._file.write(content)
            self._tick(begin)
            next_page, changed = first + count, changed + count

    def _read_end(self, changed: int, *, said: int) -> bytes:
        newer_sha256 = self._read(_SHA256_BYTES)
        if said != changed or self._plain.read(1):
            msg = f"the delta contradicts itself: it says {said} changed pages, and has {changed}"
            raise UnusableDeltaError(msg)
        return newer_sha256

    def _read(self, length: int) -> bytes:
        """Read exactly so much: the stream gives what it has, and nothing at an early end."""
        parts = bytearray()
        while len(parts) < length and (part := self._plain.read(length - len(parts))):
            parts += part
        if len(parts) < length:
            msg = "the delta ends too early"
            raise UnusableDeltaError(msg)
        return bytes(parts)
