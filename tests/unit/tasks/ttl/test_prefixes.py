"""Keys belong to the family with the longest prefix."""

from __future__ import annotations

import pytest

from tasks.ttl.prefixes import OTHER, Prefixes, family_prefixes


@pytest.mark.parametrize(
    ("key", "family"),
    [
        (b"user:1", "users"),
        (b"user:session:1", "sessions"),
        (b"user:", "users"),
        (b"user", OTHER),
        (b"xuser:1", OTHER),
        (b"", OTHER),
        (b"a.c", "dots"),
        (b"abc", OTHER),
        (b"\xff\xfe", OTHER),
        ("é:1".encode(), "accents"),
    ],
)
def test_the_longest_prefix_wins(key: bytes, family: str) -> None:
    """In whichever order they were named; characters mean themselves, and bytes that are no text are a key too."""
    named = {"user:": "users", "user:session:": "sessions", "a.": "dots", "é:": "accents"}
    for order in (named, dict(reversed(named.items()))):
        assert Prefixes(order).family_of(key) == family


def test_no_prefix_at_all_leaves_one_family() -> None:
    """All of it is `other`."""
    prefixes = Prefixes({})
    assert (prefixes.families, prefixes.family_of(b"a")) == ([OTHER], OTHER)


def test_families_of_a_policy_and_of_operators() -> None:
    """An operator's prefix may stand for a family of the policy as well; `other` comes last, named or not."""
    named = family_prefixes(["b", "a"], {"legacy:": "a", "zzz:": "other"})
    prefixes = Prefixes(named)
    assert prefixes.families == ["a", "b", OTHER]
    assert prefixes.family_of(b"nightcrew:cache:a:0:k") == prefixes.family_of(b"legacy:k") == "a"
    assert prefixes.family_of(b"nightcrew:cache:ab:0:k") == OTHER


@pytest.mark.parametrize("wrong", [{"": "a"}, {"a": ""}])
def test_an_empty_prefix_is_refused(wrong: dict[str, str]) -> None:
    """It would be all keys, without anybody noticing."""
    with pytest.raises(ValueError, match="a character at least"):
        Prefixes(wrong)
