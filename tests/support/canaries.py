"""Secrets that a test gives away in order to look for them afterwards, in every spelling that a program may use."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_GROUP = 4  # characters that base64 makes of three bytes


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A secret with a name."""

    name: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls, name: str, *, prefix: str = "") -> Self:
        """Make one with characters that stand for themselves nowhere."""
        return cls(name=name, secret=f"{prefix}{secrets.token_hex(8)}/+&%{secrets.token_hex(8)}")

    def spellings(self) -> frozenset[str]:
        """Give it as it is, as in a URL, and as base64 wherever in a text it may begin."""
        raw = self.secret.encode()
        encoded = {base64.b64encode(b"\0" * before + raw).decode() for before in range(3)}
        encoded |= {base64.urlsafe_b64encode(b"\0" * before + raw).decode() for before in range(3)}
        # The groups at both ends depend on what stands beside it.
        inner = {text[_GROUP : -2 * _GROUP] for text in encoded}
        # SQLAlchemy leaves the plus as it is.
        quoted = {quote(self.secret, safe=safe) for safe in ("/", "", "+")}
        return frozenset({self.secret, *quoted, quote_plus(self.secret), *inner})


def find_leaks(canaries: Iterable[Canary], texts: Mapping[str, str]) -> list[str]:
    """Say which canary stands in which of the texts, with what stands before it."""
    found: list[str] = []
    for canary in canaries:
        for spelling in canary.spellings():
            for place, text in texts.items():
                if (at := text.find(spelling)) >= 0:
                    found.append(f"{canary.name} in {place}: …{text[max(at - 120, 0) : at]!r}<HERE>")
    return found
