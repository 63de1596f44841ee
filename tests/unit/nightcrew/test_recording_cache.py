"""The cache for the tests of apps has the surface of the real one, and the same manners."""

from __future__ import annotations

import inspect

import pytest

from nightcrew.cache._entries import UncacheableError
from nightcrew.cache.client import Cache
from nightcrew.errors import InvalidPolicyError
from nightcrew.testing import RecordingNightcrew


def test_it_has_the_same_surface() -> None:
    """Each public method of the real one, with the same parameters."""
    recording = RecordingNightcrew().cache
    for name in vars(Cache):
        if name.startswith("_") or name == "after_fork_in_child":
            continue
        real = getattr(Cache, name)
        if callable(real):
            assert inspect.signature(real) == inspect.signature(getattr(type(recording), name)), name
        else:
            assert hasattr(recording, name)


def test_it_keeps_and_forgets() -> None:
    """And refuses what the real one refuses."""
    cache = RecordingNightcrew().cache
    assert cache.set("defaults", "k", {"a": [1]})
    assert cache.get("defaults", "k") == {"a": [1]}
    assert cache.get_or_fill("defaults", "k", lambda: pytest.fail("it is there")) == {"a": [1]}
    assert cache.get_or_fill("defaults", "new", lambda: 1) == 1
    assert cache.get_many("defaults", ["k", "new", "never"]) == {"k": {"a": [1]}, "new": 1}
    assert cache.invalidate("defaults")
    assert cache.get("defaults", "k", 0) == 0
    assert cache.counters()["defaults"]["hits"] == 4
    with pytest.raises(UncacheableError):
        cache.set("defaults", "k", object())
    with pytest.raises(InvalidPolicyError):
        cache.get("nothing", "k")


def test_it_can_be_away() -> None:
    """Reads find nothing, and writes say that they did not arrive."""
    cache = RecordingNightcrew().cache
    cache.set("defaults", "k", 1)
    cache.is_away = True
    assert not cache.ping()
    assert cache.get("defaults", "k") is None
    assert not cache.set("defaults", "k", 2)
    assert cache.get_or_fill("defaults", "k", lambda: 3) == 3
    source: list[int] = []
    assert not cache.write_through("defaults", "k", 4, source.append)
    assert not cache.write_around("defaults", "k", lambda: source.append(5))
    assert source == [4, 5]
    cache.is_away = False
    assert cache.get("defaults", "k") is None
