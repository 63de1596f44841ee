"""States of a file of pages, and what may happen to it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tasks.backups.pages.delta import write_delta
from tasks.backups.pages.lists import list_pages
from tasks.backups.pages.patching import apply_deltas

if TYPE_CHECKING:
    from tasks.backups.pages.delta import Difference

PAGE_SIZES = (512, 4_096, 65_536)
"""Of the largest, sixteen are read at once: files of more pages are cut."""


@st.composite
def states(draw: st.DrawFn, *, page_bytes: int, most_pages: int = 40) -> bytes:
    """Give a file; few kinds of pages, so that equal ones meet, and perhaps a short one at the end."""
    pages = draw(st.lists(st.integers(0, 9), max_size=most_pages))
    tail = draw(st.just(0) | st.integers(0, page_bytes - 1))
    return b"".join(bytes([page]) * page_bytes for page in pages) + b"t" * tail


@st.composite
def histories(draw: st.DrawFn, *, page_bytes: int) -> list[bytes]:
    """Give a file, and what became of it in a few steps."""
    before = draw(states(page_bytes=page_bytes))
    steps = [before]
    for _ in range(draw(st.integers(1, 3))):
        before = draw(_changed(before, page_bytes))
        steps.append(before)
    return steps


@st.composite
def _changed(draw: st.DrawFn, before: bytes, page_bytes: int) -> bytes:
    how = draw(st.sampled_from(("edited", "truncated", "grown", "reordered", "replaced", "left alone")))
    if how == "edited" and before:
        after = bytearray(before)
        for at in draw(st.lists(st.integers(0, len(before) - 1), max_size=8)):
            after[at] ^= draw(st.integers(1, 255))
        return bytes(after)
    if how == "truncated":
        return before[: draw(st.integers(0, len(before)))]
    if how == "grown":
        return before + draw(states(page_bytes=page_bytes, most_pages=20))
    if how == "reordered":
        pages = [before[at : at + page_bytes] for at in range(0, len(before), page_bytes)]
        return b"".join(draw(st.permutations(pages)))
    return draw(states(page_bytes=page_bytes)) if how == "replaced" else before


def delta_between(older: bytes, newer: bytes, *, page_bytes: int = 512) -> bytes:
    """Make a delta."""
    return difference_between(older, newer, page_bytes=page_bytes)[0]


def difference_between(older: bytes, newer: bytes, *, page_bytes: int = 512) -> tuple[bytes, Difference]:
    """Make a delta, and tell what it came to."""
    out = io.BytesIO()
    pages = list_pages(io.BytesIO(older), page_bytes)
    difference = write_delta(io.BytesIO(newer), pages, out, newer_bytes=len(newer))
    return out.getvalue(), difference


def patched(older: bytes, *deltas: bytes, known_sha256: bytes | None = None) -> bytes:
    """Apply deltas."""
    file = io.BytesIO(older)
    apply_deltas(file, map(io.BytesIO, deltas), known_sha256=known_sha256)
    return file.getvalue()
