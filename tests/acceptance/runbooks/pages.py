"""Reads a page: its blocks of commands in their order, and what must be seen after each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNBOOKS: Final = Path(__file__).parents[3] / "ops" / "runbooks"
INDEX: Final = "README.md"

_FENCE: Final = re.compile(r"^```(?P<info>.*)$")
_SH: Final = re.compile(r"sh(?: (?:exit (?P<code>\d)|by hand: (?P<why>.{10,})))?")
_COMMAND: Final = re.compile(r"\bnightcrew ((?:[a-z-]+ ?)+)")


class UnreadablePageError(Exception):
    """A page has a block that nobody knows what to do with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands, and what must be seen after them."""

    line: int
    commands: str
    code: int = 0
    """What they must end with."""
    by_hand: str = ""
    """Why a person has to do it; empty: it is run."""
    expected: tuple[str, ...] = ()
    """Texts that must be in what they print."""

    @property
    def verbs(self) -> list[list[str]]:
        """Give the words after each `nightcrew`, as far as they are no options."""
        return [match[1].split() for match in _COMMAND.finditer(self.commands)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page."""

    name: str
    text: str
    blocks: tuple[Block, ...]

    @property
    def run(self) -> list[Block]:
        """Give the blocks that are run."""
        return [block for block in self.blocks if not block.by_hand]


def names() -> list[str]:
    """Name every page but the index."""
    return sorted(path.name for path in RUNBOOKS.glob("*.md") if path.name != INDEX)


def read(name: str) -> Page:
    """Read a page.

    Raises:
        UnreadablePageError: see there.
    """
    text = (RUNBOOKS / name).read_text(encoding="utf-8")
    return Page(name=name, text=text, blocks=tuple(_blocks(name, text)))


def _blocks(name: str, text: str) -> Iterator[Block]:
    pending: Block | None = None
    for line, info, body in _fences(name, text):
        if info == "expect":
            if pending is None or pending.by_hand:
                msg = f"{name}:{line}: nothing was run that this could be seen of"
                raise UnreadablePageError(msg)
            yield _with(pending, tuple(body.splitlines()))
            pending = None
            continue
        if pending is not None:
            yield pending
        if not (found := _SH.fullmatch(info)):
            msg = f"{name}:{line}: a block of {info!r}: sh, sh exit N, sh by hand: WHY, or expect"
            raise UnreadablePageError(msg)
        pending = Block(line=line, commands=body, code=int(found["code"] or 0), by_hand=found["why"] or "")
    if pending is not None:
        yield pending


def _with(block: Block, expected: tuple[str, ...]) -> Block:
    return Block(line=block.line, commands=block.commands, code=block.code, expected=expected)


def _fences(name: str, text: str) -> Iterator[tuple[int, str, str]]:
    info: str | None = None
    begin, body = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence and info is None:
            info, begin, body = fence["info"].strip(), number, []
        elif fence and info is not None:
            yield begin, info, "\n".join(body)
            info = None
        elif info is not None:
            body.append(line)
    if info is not None:
        msg = f"{name}:{begin}: a block without an end"
        raise UnreadablePageError(msg)
