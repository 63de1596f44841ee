"""What is damaged, is none, or belongs to another file is refused; never is a wrong file taken for a right one."""

from __future__ import annotations

import hashlib
import io
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.backups.pages.delta import HEADER, MAGIC, NO_PAGE, RUN
from tasks.backups.pages.lists import PageList, UnreadablePageListError, list_pages
from tasks.backups.pages.patching import UnusableDeltaError, WrongResultError
from tests.unit.tasks.backups.pages.states import delta_between, patched

OLDER = b"".join(bytes([page]) * 512 for page in range(20))
NEWER = OLDER[:1024] + b"new" * 1024 + OLDER[4096:] + b"more" * 200
DELTA = delta_between(OLDER, NEWER)
PAGES = list_pages(io.BytesIO(OLDER), 512, seed=7).to_bytes()
SHA = hashlib.sha256(OLDER).digest()
NEWER_SHA = hashlib.sha256(NEWER).digest()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Give bytes that are not what they were."""
    how = draw(st.sampled_from(("flipped", "cut", "lengthened", "swapped", "doubled", "garbage")))
    begin = draw(st.integers(0, len(whole) - 1))
    end = draw(st.integers(begin, len(whole)))
    if how == "flipped":
        other = bytearray(whole)
        other[begin] ^= draw(st.integers(1, 255))
        return bytes(other)
    if how == "cut":
        return whole[:begin] + (whole[end:] if end > begin else b"")
    if how == "lengthened":
        return whole[:begin] + draw(st.binary(min_size=1, max_size=64)) + whole[begin:]
    if how == "swapped":
        return whole[end:] + whole[begin:end] + whole[:begin]
    return whole + whole if how == "doubled" else draw(st.binary(max_size=2 * len(whole)))


@settings(max_examples=600, deadline=None)
@given(damaged(DELTA))
def test_any_damage_of_a_delta_is_refused(delta: bytes) -> None:
    """Before one byte of the file is touched."""
    if delta == DELTA:
        return
    file = io.BytesIO(OLDER)
    with pytest.raises(UnusableDeltaError, match="damaged"):
        patched(OLDER, delta)
    assert file.getvalue() == OLDER


@settings(max_examples=300, deadline=None)
@given(damaged(PAGES))
def test_any_damage_of_a_list_is_refused(pages: bytes) -> None:
    """A delta against a wrong list would leave changed pages out."""
    if pages == PAGES:
        return
    with pytest.raises(UnreadablePageListError):
        PageList.from_bytes(pages)


def test_each_cut_is_refused() -> None:
    """At every length there is."""
    for length in range(len(DELTA)):
        with pytest.raises(UnusableDeltaError):
            patched(OLDER, DELTA[:length])
    for length in range(len(PAGES)):
        with pytest.raises(UnreadablePageListError):
            PageList.from_bytes(PAGES[:length])


@pytest.mark.parametrize("other", [NEWER, OLDER[:-1], OLDER + b"x", b"", bytes([255]) + OLDER[1:]])
def test_another_parent_is_refused(other: bytes) -> None:
    """By its length and its hash, and before it is changed."""
    with pytest.raises(UnusableDeltaError, match="another file"):
        patched(other, DELTA)


def test_deltas_in_the_wrong_order_are_refused() -> None:
    """Each names its parent; to leave one out is the same."""
    last = NEWER[::-1]
    second = delta_between(NEWER, last)
    assert patched(OLDER, DELTA, second) == last
    for wrong in ((second, DELTA), (second,), (DELTA, DELTA), (DELTA, second, DELTA)):
        with pytest.raises(UnusableDeltaError, match="another file"):
            patched(OLDER, *wrong)


def test_a_parent_that_is_not_what_it_is_said_to_be_is_found_at_the_end() -> None:
    """Whoever hands in a wrong hash of the parent gets no file."""
    with pytest.raises(WrongResultError):
        patched(OLDER[:-1] + b"?", DELTA, known_sha256=SHA)


def _sealed(*plain: bytes) -> bytes:
    frame = zstandard.ZstdCompressor().compress(b"".join(plain))
    return frame + struct.pack("<II", 0x184D2A5E, 32) + hashlib.blake2b(frame, digest_size=32).digest()


def _header(magic: bytes = MAGIC, page_bytes: int = 512) -> bytes:
    return HEADER.pack(magic, page_bytes, len(OLDER), SHA, len(NEWER))


END = RUN.pack(NO_PAGE, 2) + NEWER_SHA
RUNS = (RUN.pack(3, 1) + bytes(512), RUN.pack(7, 1) + bytes(512))


@pytest.mark.parametrize(
    ("delta", "because"),
    [
        ((_header(), *reversed(RUNS), END), "contradicts"),
        ((_header(), RUNS[0], RUNS[0], END), "contradicts"),
        ((_header(), RUN.pack(500, 1) + bytes(512), RUNS[1], END), "contradicts"),
        ((_header(), RUN.pack(3, 0), RUNS[1], END), "contradicts"),
        ((_header(), RUN.pack(0, 4_000_000_000), END), "contradicts"),
        ((_header(), RUNS[0], END), "contradicts"),
        ((_header(), *RUNS, END, b"more"), "contradicts"),
        ((_header(), *RUNS), "too early"),
        ((_header(), RUNS[0][:-1]), "too early"),
        ((_header()[:-1],), "too early"),
        ((), "too early"),
        ((_header(magic=b"page delta, v.2\n"), *RUNS, END), "newer release"),
        ((_header(page_bytes=1000), *RUNS, END), "newer release"),
    ],
)
def test_contradictions_are_refused(delta: tuple[bytes, ...], because: str) -> None:
    """Also under a right seal: a delta that was put together wrongly in the first place."""
    with pytest.raises(UnusableDeltaError, match=because):
        patched(OLDER, _sealed(*delta))


def test_pages_that_make_another_file_are_refused() -> None:
    """A delta that fits in everything but in what comes out."""
    with pytest.raises(WrongResultError):
        patched(OLDER, _sealed(_header(), *RUNS, END))


def test_frame_that_is_none_is_refused() -> None:
    """Garbage under a right seal."""
    garbage = b"\x28\xb5\x2f\xfd" + b"garbage" * 9
    seal = struct.pack("<II", 0x184D2A5E, 32) + hashlib.blake2b(garbage, digest_size=32).digest()
    with pytest.raises(UnusableDeltaError, match="decompressed"):
        patched(OLDER, garbage + seal)


def _listed(magic: bytes, page_bytes: int, file_bytes: int, hashes: bytes) -> bytes:
    content = struct.pack(">16sIQ32sQ", magic, page_bytes, file_bytes, SHA, 7) + hashes
    return content + hashlib.blake2b(content, digest_size=16).digest()


@pytest.mark.parametrize(
    ("stored", "because"),
    [
        (_listed(b"page list, v. 3\n", 512, 512, bytes(16)), "another release"),
        (_listed(b"page list, v. 1\n", 512, 512, bytes(16)), "another release"),
        (_listed(b"page list, v. 2\n", 512, 513, bytes(16)), "contradicts"),
        (_listed(b"page list, v. 2\n", 500, 500, bytes(16)), "contradicts"),
    ],
)
def test_lists_that_make_no_sense_are_refused(stored: bytes, because: str) -> None:
    """Also under a right seal."""
    assert len(PageList.from_bytes(_listed(b"page list, v. 2\n", 512, 512, bytes(16)))) == 1
    with pytest.raises(UnreadablePageListError, match=because):
        PageList.from_bytes(stored)


def test_size_that_no_page_has_is_a_mistake_of_the_caller() -> None:
    """SQLite's pages have a power of two between 512 and 65536 bytes."""
    for page_bytes in (0, 256, 1000, 131_072):
        with pytest.raises(ValueError, match="size of a page"):
            list_pages(io.BytesIO(b""), page_bytes)
