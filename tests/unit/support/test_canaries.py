"""The search for secrets finds them in every spelling."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.support.canaries import Canary, find_leaks

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = Canary.make("a password")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Functions and fixed names: the secret is another one in each process that collects these tests.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: f"redis://user:{secret}@host",
    "quoted whole": lambda secret: f"redis://user:{quote(secret, safe='')}@host",
    "quoted": lambda secret: f"/{quote(secret)}?",
    "base64": _base64,
    "base64 after two bytes": lambda secret: _base64(f"u:{secret}"),
    "base64 after three": lambda secret: _base64(f"us:{secret} and more"),
    "base64 of addresses": lambda secret: base64.urlsafe_b64encode(f"user:{secret}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found(spelling: str) -> None:
    """As it is, as in a URL, as base64 at any place."""
    text = SPELLINGS[spelling](CANARY.secret)
    (leak, *_) = find_leaks([CANARY], {"a log": f"before {text} after"})
    assert "a password in a log" in leak
    assert CANARY.secret not in leak


def test_innocent_texts_have_none() -> None:
    """Masked or absent, there is nothing to find."""
    assert find_leaks([CANARY], {"a log": "redis://user:***@host", "a page": CANARY.name}) == []
    assert CANARY.secret not in repr(CANARY)
