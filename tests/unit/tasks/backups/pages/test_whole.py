"""A whole file goes in and comes out, and any `zstd` can open it."""

from __future__ import annotations

import hashlib
import io
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.backups.pages.lists import PageList, list_pages
from tasks.backups.pages.whole import FRAME_BYTES, UnreadableFileError, compress_whole, decompress_whole
from tests.unit.tasks.backups.pages.states import PAGE_SIZES, states

BIG = random.Random(1).randbytes(3 * 1024 * 1024) * 4 + b"tail"


def _compressed(state: bytes, page_bytes: int = 4096) -> bytes:
    out = io.BytesIO()
    compress_whole(io.BytesIO(state), page_bytes, out)
    return out.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_goes_in_comes_out(choice: st.DataObject) -> None:
    """With the list of its pages from the same pass, which stores and reads."""
    page_bytes = choice.draw(st.sampled_from(PAGE_SIZES))
    state = choice.draw(states(page_bytes=page_bytes))
    compressed, restored = io.BytesIO(), io.BytesIO()
    pages = compress_whole(io.BytesIO(state), page_bytes, compressed)
    assert pages == list_pages(io.BytesIO(state), page_bytes, seed=pages.seed) == PageList.from_bytes(pages.to_bytes())
    compressed.seek(0)
    sha256 = decompress_whole(compressed, restored, file_bytes=len(state))
    assert restored.getvalue() == state
    assert sha256 == pages.file_sha256 == hashlib.sha256(state).digest()


def test_any_zstd_opens_it() -> None:
    """And a change in the middle leaves the frames around it as they are, which the engine then finds again."""
    compressed = _compressed(BIG)
    assert zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True).read() == BIG
    changed = bytearray(BIG)
    changed[FRAME_BYTES + 5] ^= 1
    other = _compressed(bytes(changed))
    same = len(_compressed(BIG[:FRAME_BYTES]))
    assert compressed[:same] == other[:same]
    assert compressed != other
    last = len(_compressed(BIG[2 * FRAME_BYTES :]))
    assert compressed[-last:] == other[-last:]


def test_progress_is_told_in_bytes() -> None:
    """Of the file, not of what it is compressed to."""
    told: list[int] = []
    compress_whole(io.BytesIO(BIG), 4096, io.BytesIO(), tick=told.append)
    assert told == sorted(set(told))
    assert told[-1] == len(BIG)
    assert len(told) > 10


def test_damage_is_refused() -> None:
    """Frames carry checksums; a file that ends early or late has another length."""
    compressed = _compressed(BIG)
    flipped = bytearray(compressed)
    flipped[len(flipped) // 2] ^= 1
    for wrong in (bytes(flipped), compressed[:-100], compressed[:5], b"", b"garbage" * 9, compressed + compressed):
        with pytest.raises(UnreadableFileError):
            decompress_whole(io.BytesIO(wrong), io.BytesIO(), file_bytes=len(BIG))
