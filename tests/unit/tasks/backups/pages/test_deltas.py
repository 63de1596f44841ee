"""An older file and a delta give the newer file, byte by byte."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.backups.pages.delta import HEADER, MAGIC, NO_PAGE, RUN, TooManyChangesError, write_delta
from tasks.backups.pages.lists import list_pages
from tests.unit.tasks.backups.pages.states import PAGE_SIZES, delta_between, difference_between, histories, patched

MIB = 1024 * 1024


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_deltas_give_each_state_back(choice: st.DataObject) -> None:
    """Whatever happened to a file: edits, growth, truncation, another order, a replacement."""
    page_bytes = choice.draw(st.sampled_from(PAGE_SIZES))
    steps = choice.draw(histories(page_bytes=page_bytes))
    deltas = [delta_between(older, newer, page_bytes=page_bytes) for older, newer in pairwise(steps)]
    assert patched(steps[0], *deltas) == steps[-1]
    direct = delta_between(steps[0], steps[-1], page_bytes=page_bytes)
    assert patched(steps[0], direct, known_sha256=hashlib.sha256(steps[0]).digest()) == steps[-1]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_delta_holds_the_changed_pages_alone(choice: st.DataObject) -> None:
    """Counted without any hash: a page is changed if its bytes are, or if it was not there before."""
    page_bytes = choice.draw(st.sampled_from(PAGE_SIZES))
    older, newer = choice.draw(histories(page_bytes=page_bytes))[:2]
    _, difference = difference_between(older, newer, page_bytes=page_bytes)
    starts = range(0, len(newer), page_bytes)
    changed = sum(newer[at : at + page_bytes] != older[at : at + page_bytes] for at in starts)
    assert difference.changed == changed
    assert difference.changed_share == (changed / len(starts) if starts else 0)
    assert difference.pages == list_pages(io.BytesIO(newer), page_bytes, seed=difference.pages.seed)


def test_a_person_can_read_a_delta_with_zstd_alone() -> None:
    """The format that the package's docstring promises, read without any of its code."""
    older, newer = b"a" * 512 * 3, b"a" * 512 + b"b" * 1024 + b"a" * 512 + b"short"
    plain = zstandard.ZstdDecompressor().stream_reader(delta_between(older, newer), read_across_frames=True).read()
    shas = (hashlib.sha256(older).digest(), hashlib.sha256(newer).digest())
    assert plain == b"".join(
        (
            HEADER.pack(b"page delta, v.1\n", 512, len(older), shas[0], len(newer)),
            RUN.pack(1, 4),
            b"b" * 1024 + b"a" * 512 + b"short",
            b"\xff\xff\xff\xff",
            (4).to_bytes(4, "big"),
            shas[1],
        )
    )
    assert HEADER.size == 16 + 4 + 8 + 32 + 8
    assert (MAGIC, NO_PAGE) == (b"page delta, v.1\n", 2**32 - 1)


def test_unchanged_file_costs_next_to_nothing() -> None:
    """A point without changes is a few bytes, and proves that the crew is alive."""
    state = random.Random(1).randbytes(512 * 1000)
    delta, difference = difference_between(state, state)
    assert difference.changed == 0
    assert len(delta) < 250


def test_too_many_changes_are_told_early() -> None:
    """The pass ends with the chunk in which the limit was passed, not with the file."""
    older, newer = bytes(64 * MIB), b"x" * (64 * MIB)
    read: list[int] = []
    pages = list_pages(io.BytesIO(older), 4096)
    with pytest.raises(TooManyChangesError) as raised:
        write_delta(io.BytesIO(newer), pages, io.BytesIO(), newer_bytes=len(newer), most_changed=300, tick=read.append)
    assert raised.value.changed == 320
    assert read[-1] == (320 - 32) * 4096


def test_limit_itself_is_not_too_many() -> None:
    """`most_changed` pages are a delta."""
    pages = list_pages(io.BytesIO(bytes(5_120)), 512)
    difference = write_delta(io.BytesIO(b"x" * 5_120), pages, io.BytesIO(), newer_bytes=5_120, most_changed=10)
    assert difference.changed == 10


def test_memory_does_not_grow_with_the_file() -> None:
    """A page costs its 16 bytes, a few times for a moment, and no object of its own."""
    page_bytes, pages = 512, 100_000
    newer = _Endless(page_bytes * pages)
    older = list_pages(_Endless(page_bytes * pages), page_bytes)
    tracemalloc.start()
    try:
        write_delta(newer, older, io.BytesIO(), newer_bytes=page_bytes * pages)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB


class _Endless:
    """Zeros, so many."""

    def __init__(self, length: int) -> None:
        self._left = length

    def readinto(self, buffer: memoryview, /) -> int:
        length = min(len(buffer), self._left)
        self._left -= length
        return length
