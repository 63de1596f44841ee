"""Which pages a file is made of: a short hash of each, kept beside a restore point for the delta that comes next.

The hash only finds out which pages have changed; that a restored file is the captured one is said by its SHA-256. So it
is XXH3 with 128 bits, which takes a tenth of the time. Its seed is drawn for each full and kept in the list, which the
vault encrypts: whoever can write into the database cannot make up pages that are taken for one another.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self

import xxhash

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HASH_BYTES: Final = 16
CHUNK_BYTES: Final = 128 * 1024
"""How much of a file is read at once: at least one page, and always whole ones. It stays in the cache of a core between
the system's copying and the two hashes, which with a megabyte costs twice the system's time."""

_MAGIC: Final = b"page list, v. 2\n"
_HEADER: Final = struct.Struct(">16sIQ32sQ")
_SEED_BITS: Final = 64
_SMALLEST_PAGE: Final = 512
_LARGEST_PAGE: Final = 65_536


class Source(Protocol):
    """A file to read, best one without a buffer of its own."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as it comes easy; 0 at the end."""


class UnreadablePageListError(PermanentError):
    """What should be a page list is none, is damaged, or is of another release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageList:
    """The pages of a file, in order."""

    page_bytes: int
    file_bytes: int
    file_sha256: bytes
    seed: int = field(repr=False)
    """Of the hashes: the same in all lists of a chain."""
    hashes: bytes = field(repr=False)
    """One for each page, one after the other: one object for any number of pages."""

    def __len__(self) -> int:
        return len(self.hashes) // HASH_BYTES

    def to_bytes(self) -> bytes:
        """Give the list as it is stored."""
        header = _HEADER.pack(_MAGIC, self.page_bytes, self.file_bytes, self.file_sha256, self.seed)
        return b"".join((header, self.hashes, _seal(header + self.hashes)))

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Read a stored list.

        Raises:
            UnreadablePageListError: it is none, is damaged, or is of another release.
        """
        if len(stored) < _HEADER.size + HASH_BYTES or _seal(stored[:-HASH_BYTES]) != stored[-HASH_BYTES:]:
            msg = "the page list is damaged: its bytes are not those that were written"
            raise UnreadablePageListError(msg)
        magic, page_bytes, file_bytes, sha256, seed = _HEADER.unpack_from(stored)
        if magic != _MAGIC:
            msg = f"the page list begins with {magic!r}: another release has written it"
            raise UnreadablePageListError(msg)
        hashes = stored[_HEADER.size : -HASH_BYTES]
        if not is_page_size(page_bytes) or len(hashes) != pages_of(file_bytes, page_bytes) * HASH_BYTES:
            msg = f"the page list contradicts itself: {len(hashes)} bytes of hashes for a file of {file_bytes} bytes"
            raise UnreadablePageListError(msg)
        return cls(page_bytes=page_bytes, file_bytes=file_bytes, file_sha256=sha256, seed=seed, hashes=hashes)


class PageScan:
    """Reads a file once, and makes its list on the way."""

    def __init__(self, file: Source, page_bytes: int, tick: Callable[[int], None], *, seed: int | None = None) -> None:
        """Read from where the file stands to its end; `tick` hears how many bytes are read, and is a checkpoint.

        `seed` is that of the list that the new one is compared with; None draws one.
        """
        if not is_page_size(page_bytes):
            msg = f"{page_bytes} bytes are no size of a page"
            raise ValueError(msg)
        self._file, self._page_bytes, self._tick = file, page_bytes, tick
        self._seed = secrets.randbits(_SEED_BITS) if seed is None else seed
        self._sha256, self._hashes, self._read_bytes = hashlib.sha256(), bytearray(), 0

    def chunks(self) -> Iterator[tuple[memoryview, bytes]]:
        """Give the file in chunks of whole pages, each with the hashes of its pages; a chunk is gone with the next."""
        chunk = memoryview(bytearray(max(CHUNK_BYTES, self._page_bytes)))
        while length := _fill(self._file, chunk):
            part = chunk[:length]
            self._sha256.update(part)
            hashes = page_hashes(part, self._page_bytes, self._seed)
            self._hashes += hashes
            self._read_bytes += length
            yield part, hashes
            self._tick(self._read_bytes)

    def finish(self) -> PageList:
        """Give the list of what the chunks were."""
        return PageList(
            page_bytes=self._page_bytes,
            file_bytes=self._read_bytes,
            file_sha256=self._sha256.digest(),
            seed=self._seed,
            hashes=bytes(self._hashes),
        )


def list_pages(
    file: Source, page_bytes: int, tick: Callable[[int], None] = lambda _: None, *, seed: int | None = None
) -> PageList:
    """Make the list of a file."""
    scan = PageScan(file, page_bytes, tick, seed=seed)
    for _ in scan.chunks():
        pass
    return scan.finish()


def page_hashes(chunk: memoryview, page_bytes: int, seed: int) -> bytes:
    """Hash each page of a chunk."""
    hash_of = xxhash.xxh3_128_digest
    starts = range(0, len(chunk), page_bytes)
    return b"".join([hash_of(chunk[start : start + page_bytes], seed) for start in starts])


def pages_of(file_bytes: int, page_bytes: int) -> int:
    """Count the pages of a file; the last one may be short."""
    return -(-file_bytes // page_bytes)


def is_page_size(page_bytes: int) -> bool:
    """Tell whether SQLite could have pages of this size."""
    return _SMALLEST_PAGE <= page_bytes <= _LARGEST_PAGE and page_bytes.bit_count() == 1


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()


def _fill(file: Source, chunk: memoryview) -> int:
    """Read until the chunk is full or the file ends: an unbuffered read may give less than it could."""
    filled = 0
    while filled < len(chunk) and (length := file.readinto(chunk[filled:])):
        filled += length
    return filled
